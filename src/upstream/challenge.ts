// The WWW-Authenticate header (RFC 9110, section 11.6.1), as far as registries use it.

export type Challenge =
  | { readonly scheme: 'basic' }
  | { readonly scheme: 'bearer'; readonly realm: string; readonly service: string | undefined };

const PARAMETER = /([A-Za-z0-9_-]{1,64})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/g;

/** The challenge to answer: Bearer before Basic; undefined when the header holds neither, well formed. */
export function parseChallenge(header: string | undefined): Challenge | undefined {
  if (header === undefined || header.length > 8192) return undefined;
  const bearer = /(?:^|,)\s*bearer\s+/i.exec(header);
  if (bearer) {
    const parameters = new Map<string, string>();
    for (const [, name = '', quoted, plain] of header
      .slice(bearer.index + bearer[0].length)
      .matchAll(PARAMETER)) {
      const value = quoted?.replace(/\\(.)/g, '$1') ?? plain ?? '';
      // The first of a name counts: what follows may belong to the next challenge.
      if (!parameters.has(name.toLowerCase())) parameters.set(name.toLowerCase(), value);
    }
    const realm = parameters.get('realm');
    if (realm !== undefined) return { scheme: 'bearer', realm, service: parameters.get('service') };
  }
  return /(?:^|,)\s*basic(?:\s|$)/i.test(header) ? { scheme: 'basic' } : undefined;
}
