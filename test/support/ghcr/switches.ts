// How the stand-in behaves where ghcr.io varies, or where another registry would. The defaults are what
// ghcr.io does most; tests assign to the fields at any time, and the next request sees it.
import type { Algorithm } from '../../../src/oci/digest.ts';

export interface Switches {
  /** Who is asked for credentials, and how. `basic`: as a registry with htpasswd; `none`: nobody is. */
  auth: 'bearer' | 'basic' | 'none';
  /** The challenge's realm, service and scope, when they are to be other than the true ones. */
  realm: string | undefined;
  service: string;
  scope: string | undefined;
  /** The scope in the challenge of `/v2/` and `/v2/_catalog`: on ghcr.io one that is never granted. */
  pingScope: string;

  /** What an anonymous client is told of a package that does not exist: by /token, or later by /v2/. */
  missing: 'token-403' | 'token-401' | 'later-404' | 'later-403';
  /** What an anonymous client is told of a private package. */
  private: 'token-401' | 'token-403' | 'later-403';
  /**
   * What a user is told who asks to push, or otherwise to write, without the right to: by /token, or later by
   * /v2/, from HEAD of a blob on, with a 403 or with the 401 that bad tokens get.
   */
  pushDenied: 'token-403' | 'later-403' | 'later-unauthenticated';
  /** What the challenge asks for when a request would write. Not known of ghcr.io. */
  pushActions: string;
  /** The message of the 403 for a user without a right to the package. */
  deniedMessage: string;
  /** What an expired token gets: a 401 with a challenge, or ghcr's answer to any bad Authorization. */
  expiredToken: 'challenge' | 'denied';
  tokenTtlMs: number;
  /** Seconds to put into `expires_in`; ghcr.io leaves it out. */
  expiresIn: number | undefined;
  /** What the token is called in the answer; the token spec allows both. */
  tokenField: 'token' | 'access_token';

  /** Whether a manifest is 404 when Accept does not name its type; wildcards do not count. */
  enforceAccept: boolean;
  /** Whether If-None-Match gets a 304. Not known of ghcr.io, so false: the answer is always whole. */
  ifNoneMatch: boolean;
  /** Leaves out Content-Length (bodies are then chunked), Docker-Content-Digest, ETag. */
  omitContentLength: boolean;
  omitDigest: boolean;
  omitEtag: boolean;

  /** The answer to HEAD of a blob: a 200 with its size, or the redirect that GET gets. */
  blobHead: 'ok' | 'redirect';
  /** False: the registry sends blobs itself. */
  redirects: boolean;
  redirectStatus: number;
  /** What Location says in place of the signed URL; undefined leaves the header out. */
  redirectTo: (signedUrl: string) => string | undefined;
  /** Further redirects on the blob host before the signed URL; Infinity never arrives. */
  redirectHops: number;
  signedUrlTtlMs: number;
  /** The blob host's answer to more than one range: 501, or everything as ghcr.io did in 2021. */
  severalRanges: 501 | 200;

  tagsPageSize: number;
  /** In which order tags/list has them: as they were made, or as the spec says. */
  tagsOrder: 'made' | 'lexical';
  /** `redirect`: 303 to a web page that is not there; `not-found`: 404 MANIFEST_UNKNOWN; or as in the spec. */
  referrers: 'redirect' | 'not-found' | 'supported';

  /** The Location of an upload: its path, the URL on the registry's own origin, or what a test makes of the path. */
  uploadLocation: 'relative' | 'absolute' | ((path: string) => string);
  /** Whether that Location has a query, another one after each request, without which the upload is unknown. */
  uploadState: boolean;
  /** What the end of an upload under a digest that is not its own gets: 404 as on ghcr.io, or 400 as in the spec. */
  badFinish: 404 | 400;
  /** What a request that broke off leaves: the upload with the bytes that came, or no upload. Not known of ghcr.io. */
  brokenUpload: 'kept' | 'lost';
  /** How long an upload may take. */
  uploadTtlMs: number;
  /** The largest PATCH with a Content-Range. */
  chunkLimitBytes: number;
  /** The largest blob; more gets a 413. */
  blobLimitBytes: number;
  /** What a blob or a manifest may be pushed under. */
  digests: readonly Algorithm[];
  /** Whether /v2/ deletes, as an ordinary registry does: a tag alone, or a manifest with its tags, or a blob. */
  allowDelete: boolean;
  /** Whether it takes what the spec has after 1.1: PUT of a manifest with `?tag=` or `?digest=`, mounts from anywhere. */
  nextSpec: boolean;

  /** Whether an owner is an organization. By default one is a user when a user is called so, else an org. */
  ownerKinds: Readonly<Record<string, 'org' | 'user'>>;
  /** How often a version was downloaded: a public one with more than 5000 cannot be deleted. */
  downloadsOf: (name: string, digest: string) => number;
  /** Whether the package interface refuses to delete the last version of a package, or the last with a tag. */
  keepLastVersion: boolean;
  /** What the package interface says of an organization with single sign-on that the token is not known to. */
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

    ownerKinds: {},
    downloadsOf: () => 0,
    keepLastVersion: true,
    singleSignOn: 'none',
  };
}
