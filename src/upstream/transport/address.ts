// An address that an upstream gave, in a Location. A URL normalizes: it resolves `%2e%2e`, escapes a quotation mark, drops
// an empty query. Signatures are over what was written, so the path and query go out byte for byte as they came.

export class Address extends URL {
  /** Path and query. */
  readonly target: string;

  private constructor(url: URL, target: string) {
    super(url.href);
    this.target = target;
  }

  /** Of a Location (RFC 9110, section 10.2.2), which may be relative; undefined when it is no address. */
  static of(text: string, base: URL): Address | undefined {
    const url = URL.parse(text, base.href);
    return url === null ? undefined : new Address(url, writtenTarget(text) ?? targetOf(url));
  }

  /** The same with this parameter at the end of its query, and nowhere else in it. */
  static with(url: URL, name: string, value: string): Address {
    const [path = '', ...query] = targetOf(url).split('?');
    const others = query
      .join('?')
      .split('&')
      .filter(each => each !== '' && !each.startsWith(`${name}=`));
    return new Address(url, `${path}?${[...others, `${name}=${encodeURIComponent(value)}`].join('&')}`);
  }
}

/** What goes into the request line. */
export function targetOf(url: URL): string {
  return url instanceof Address ? url.target : url.pathname + url.search;
}

/** Path and query of an absolute address or of an absolute path as they are written, where a URL reads them as we do. */
function writtenTarget(text: string): string | undefined {
  if (!/^[\x21-\x7e]+$/.test(text) || text.includes('\\')) return undefined;
  const [written] = text.split('#', 1);
  const [, rest] = /^(?:https?:)?\/\/[^/?]+(.*)$/i.exec(written ?? '') ?? [];
  if (rest !== undefined) return rest.startsWith('/') ? rest : `/${rest}`;
  return /^\/(?!\/)/.test(written ?? '') ? written : undefined;
}
