// How the fake ghcr.io behaves where the real one varies, or where another registry would differ. The defaults are what
// ghcr.io usually does; tests assign to the fields at any time, which takes effect on the next request.
import type { Algorithm } from '../../../src/oci/digest.ts';
import type { Kind } from './lag.ts';

export interface Switches {
  /** How clients are asked for credentials. `basic`: as by a registry with htpasswd; `none`: not at all. */
  auth: 'bearer' | 'basic' | 'none';
  /** The realm, service and scope of the challenge, if not the true ones. */
  realm: string | undefined;
  service: string;
  scope: string | undefined;
  /** The scope in the challenge of `/v2/` and `/v2/_catalog`: on ghcr.io one that is never granted. */
  pingScope: string;

  /** What an anonymous client gets for a package that does not exist: from /token, or later from /v2/. */
  missing: 'token-403' | 'token-401' | 'later-404' | 'later-403';
  /** What an anonymous client gets for a private package. */
  private: 'token-401' | 'token-403' | 'later-403';
  /**
   * What a user without the right to push or delete gets: a 403 from /token, or later, from HEAD of a blob on, a 403 or
   * the 401 that invalid tokens get.
   */
  pushDenied: 'token-403' | 'later-403' | 'later-unauthenticated';
  /** The actions in the challenge to a request that writes. Not known of ghcr.io. */
  pushActions: string;
  /** The message of the 403 for a user without a right to the package. */
  deniedMessage: string;
  /** What an expired token gets: a 401 with a challenge, or ghcr.io's response to any invalid Authorization. */
  expiredToken: 'challenge' | 'denied';
  tokenTtlMs: number;
  /** Seconds to put into `expires_in`; ghcr.io leaves it out. */
  expiresIn: number | undefined;
  /** The name of the token in the response; the token spec allows both. */
  tokenField: 'token' | 'access_token';

  /** Whether a manifest is not found when Accept does not name its type; wildcards do not count. */
  enforceAccept: boolean;
  /** Whether If-None-Match can get a 304. Not known of ghcr.io, so false: every response is complete. */
  ifNoneMatch: boolean;
  /** Leave out Content-Length (bodies are then chunked), Docker-Content-Digest, ETag. */
  omitContentLength: boolean;
  omitDigest: boolean;
  omitEtag: boolean;

  /** The response to HEAD of a blob: a 200 with its size, or the redirect that GET gets. */
  blobHead: 'ok' | 'redirect';
  /** False: the registry sends blobs itself. */
  redirects: boolean;
  redirectStatus: number;
  /** The Location in place of the signed URL; undefined leaves the header out. */
  redirectTo: (signedUrl: string) => string | undefined;
  /** More redirects on the blob host before the signed URL; Infinity: a redirect loop. */
  redirectHops: number;
  signedUrlTtlMs: number;
  /** The blob host's response to several ranges: 501, or everything as ghcr.io did in 2021. */
  severalRanges: 501 | 200;

  tagsPageSize: number;
  /** The order of tags/list: by creation, or lexical as in the spec. */
  tagsOrder: 'made' | 'lexical';
  /** `redirect`: 303 to a web page that does not exist; `not-found`: 404 MANIFEST_UNKNOWN; or as in the spec. */
  referrers: 'redirect' | 'not-found' | 'supported';

  /** The Location of an upload: a path, a URL on the registry's own origin, or what a test makes of the path. */
  uploadLocation: 'relative' | 'absolute' | ((path: string) => string);
  /** Whether that Location has a query, which changes with each request and without which the upload is unknown. */
  uploadState: boolean;
  /** The response to finishing an upload under a wrong digest: 404 as on ghcr.io, or 400 as in the spec. */
  badFinish: 404 | 400;
  /** What a request that breaks off leaves: the upload with the bytes received, or no upload. Not known of ghcr.io. */
  brokenUpload: 'kept' | 'lost';
  /** How long an upload may take. */
  uploadTtlMs: number;
  /** The largest PATCH with a Content-Range. */
  chunkLimitBytes: number;
  /** The largest blob; a larger one gets a 413. */
  blobLimitBytes: number;
  /** The digest algorithms that can be pushed. */
  digests: readonly Algorithm[];
  /** Whether /v2/ deletes, as an ordinary registry does: a tag alone, a manifest with its tags, or a blob. */
  allowDelete: boolean;
  /**
   * Whether it supports what the spec has after 1.1: PUT of a manifest with `?tag=` or `?digest=`, mounts without
   * `from`.
   */
  nextSpec: boolean;
  /**
   * For how long reads, and the checks of a manifest that is pushed, see what was there before a push or delete, as on
   * ghcr.io for seconds: on the fake's clock, asked once for each tag, manifest or blob that is written.
   */
  lagMs: number | ((kind: Kind) => number);

  /** Whether an owner is an organization. By default one is a user if a user has that name, otherwise an org. */
  ownerKinds: Readonly<Record<string, 'org' | 'user'>>;
  /** How often a version was downloaded: a public one with more than 5000 downloads cannot be deleted. */
  downloadsOf: (name: string, digest: string) => number;
  /** Whether the package API rejects deleting the last version of a package, or the last one with a tag. */
  keepLastVersion: boolean;
  /** How the package API responds for an organization with single sign-on that the token is not authorized for. */
  singleSignOn: 'none' | 'required' | 'partial-results';
}

export function defaultSwitches(): Switches {
  return {
    auth: 'bearer',
    realm: undefined,
    service: 'ghcr.io',
    scope: undefined,
    pingScope: 'repository:user/image:pull',

    missing: 'token-403',
    private: 'token-401',
    pushDenied: 'token-403',
    pushActions: 'pull,push',
    deniedMessage: 'permission_denied: read_package',
    expiredToken: 'challenge',
    tokenTtlMs: 5 * 60_000,
    expiresIn: undefined,
    tokenField: 'token',

    enforceAccept: true,
    ifNoneMatch: false,
    omitContentLength: false,
    omitDigest: false,
    omitEtag: false,

    blobHead: 'ok',
    redirects: true,
    redirectStatus: 307,
    redirectTo: signedUrl => signedUrl,
    redirectHops: 0,
    signedUrlTtlMs: 5 * 60_000,
    severalRanges: 501,

    tagsPageSize: 100,
    tagsOrder: 'made',
    referrers: 'redirect',

    uploadLocation: 'relative',
    uploadState: false,
    badFinish: 404,
    brokenUpload: 'kept',
    uploadTtlMs: 10 * 60_000,
    chunkLimitBytes: 4 * 1024 * 1024,
    blobLimitBytes: 10 * 1024 ** 3,
    digests: ['sha256'],
    allowDelete: false,
    nextSpec: false,
    lagMs: 0,

    ownerKinds: {},
    downloadsOf: () => 0,
    keepLastVersion: true,
    singleSignOn: 'none',
  };
}
