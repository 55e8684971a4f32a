// Reads the JUnit reports that the suites write. All come from Go's XML encoder, which escapes every `<` and `>` in
// texts and attributes, so regular expressions are enough.

export interface TestCase {
  readonly name: string;
  /** As in the report: passed, skipped, failed, failure, error. */
  readonly status: string;
  /** The text or `message` attribute of each of its elements, by the element's name. */
  readonly texts: ReadonlyMap<string, string>;
}

export function readJunit(xml: string): TestCase[] {
  return [...xml.matchAll(/<testcase\s([^>]*)>(.*?)<\/testcase>/gs)].map(([, attributes = '', inner = '']) => ({
    name: attribute(attributes, 'name'),
    status: attribute(attributes, 'status'),
    texts: textsOf(inner),
  }));
}

function textsOf(inner: string): Map<string, string> {
  const texts = new Map<string, string>();
  for (const [, name = '', attributes = '', text = ''] of inner.matchAll(/<([\w-]+)([^>]*)>([^<]*)<\/\1>/g)) {
    texts.set(name, attribute(attributes, 'message') || unescaped(text));
  }
  return texts;
}

function attribute(attributes: string, name: string): string {
  return unescaped(new RegExp(`(?:^|\\s)${name}="([^"]*)"`).exec(attributes)?.[1] ?? '');
}

const ENTITIES: Readonly<Record<string, string>> = { lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' };

function unescaped(text: string): string {
  return text.replace(/&(?:#(x?)([\da-f]+)|(\w+));/gi, (entity, hex, code, name) =>
    code ? String.fromCodePoint(Number.parseInt(code, hex ? 16 : 10)) : (ENTITIES[name] ?? entity),
  );
}
