// JSON that someone else has written. JSON.parse makes an object of every member, which takes seconds for four megabytes
// of `{},{},…`; so the bytes are looked over first, which takes a few milliseconds, and what has more members or is
// nested deeper than anything that registries exchange is not parsed at all.

/** Objects, lists and their members. A manifest of 4 MiB with the shortest real descriptors has 140,000. */
const VALUES_LIMIT = 200_000;
const DEPTH_LIMIT = 64;

/** The parsed text, which is UTF-8. Throws an Error that says, without quoting the text, why it cannot be parsed. */
export function parseJson(bytes: Uint8Array, valuesLimit = VALUES_LIMIT): unknown {
  assertModest(bytes, valuesLimit);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new Error('it is not UTF-8');
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new Error('it is not JSON');
  }
}

/** The parsed text if it is an object; undefined if it is anything else, or cannot be parsed. */
export function parseJsonObject(
  bytes: Uint8Array,
  valuesLimit?: number,
): Readonly<Record<string, unknown>> | undefined {
  try {
    const json = parseJson(bytes, valuesLimit);
    return typeof json === 'object' && json !== null && !Array.isArray(json)
      ? (json as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

/** Counts what the brackets, commas and colons outside of strings open. Text that is not JSON is left to the parser. */
function assertModest(bytes: Uint8Array, valuesLimit: number): void {
  let values = 0;
  let depth = 0;
  let isInString = false;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (isInString) {
      if (byte === BACKSLASH) i++;
      else if (byte === QUOTE) isInString = false;
    } else if (byte === QUOTE) {
      isInString = true;
    } else if (byte === CLOSE_LIST || byte === CLOSE_OBJECT) {
      depth--;
    } else if (byte === COMMA || byte === COLON || byte === OPEN_LIST || byte === OPEN_OBJECT) {
      if (++values > valuesLimit) throw new Error(`it has more than ${valuesLimit} members`);
      if ((byte === OPEN_LIST || byte === OPEN_OBJECT) && ++depth > DEPTH_LIMIT) {
        throw new Error(`it is nested more than ${DEPTH_LIMIT} levels deep`);
      }
    }
  }
}

const [QUOTE, BACKSLASH, COMMA, COLON] = [0x22, 0x5c, 0x2c, 0x3a];
const [OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];
