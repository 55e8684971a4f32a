// What is said about a key that the schema does not have: the key that was probably meant, those that would be
// accepted in its place, or that a later version will have it.

/** Keys that are designed but that nothing reads yet, by their section; '' is the root. */
const PLANNED: Record<string, readonly string[]> = {
  '': ['mirror', 'events', 'cluster'],
  listen: ['tls', 'socket'],
  cache: ['unusedFor'],
  upstreams: ['users'],
  access: ['htpasswd', 'rules', 'remember', 'stale', 'admin'],
};

/** The problem with `key`, where only the `known` ones are accepted. */
export function unknownKey(key: string, known: readonly string[]): string {
  const near = nearest(key, known);
  return near ? `unknown key; did you mean ${near}?` : `unknown key; known here are ${known.join(', ')}`;
}

/** The problem with an unknown key at `keys`, from the root, that a later version will have; else undefined. */
export function plannedKey(keys: readonly PropertyKey[]): string | undefined {
  const section = keys.length > 1 ? String(keys[0]) : '';
  const isPlanned = PLANNED[section]?.includes(String(keys.at(-1)));
  return isPlanned ? 'this version does not support it yet; remove the key' : undefined;
}

/** The one of `known` that `key` is most likely a typo of, if any is close enough. */
function nearest(key: string, known: readonly string[]): string | undefined {
  const limit = Math.max(1, Math.floor(key.length / 3));
  const [best] = known
    .map(name => ({ name, distance: editDistance(key.toLowerCase(), name.toLowerCase()) }))
    .filter(({ distance }) => distance <= limit)
    .sort((a, b) => a.distance - b.distance);
  return best?.name;
}

/** Levenshtein distance, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
