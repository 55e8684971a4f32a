// How the stand-in behaves where ghcr.io varies, or where another registry would. The defaults are what
// ghcr.io does most; tests assign to the fields at any time, and the next request sees it.

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
  /** `redirect`: 303 to a web page that is not there; `not-found`: 404 MANIFEST_UNKNOWN. */
  referrers: 'redirect' | 'not-found';
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
    referrers: 'redirect',
  };
}
