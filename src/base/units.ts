// Sizes and durations as people write them, parsed and formatted. A size is a number of bytes, or a number and one of B,
// KiB/Ki … TiB/Ti (powers of 1024), KB … TB (powers of 1000), in upper or lower case; fractions are fine. A bare `512k`
// is rejected: programs differ by 2 to 10 percent on what it means. A duration is one or more of a number and ms, s, m, h,
// d or w, from large to small: `90s`, `1h30m`; a bare number is rejected, except for 0.

const KIBI = 1024;
const BINARY_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

const SIZE_UNITS: Record<string, number> = { '': 1, b: 1 };
for (const [i, letter] of ['k', 'm', 'g', 't'].entries()) {
  SIZE_UNITS[`${letter}ib`] = SIZE_UNITS[`${letter}i`] = KIBI ** (i + 1);
  SIZE_UNITS[`${letter}b`] = 1000 ** (i + 1);
}

/** From large to small. */
const DURATION_UNITS = [
  ['w', 7 * 24 * 60 * 60 * 1000],
  ['d', 24 * 60 * 60 * 1000],
  ['h', 60 * 60 * 1000],
  ['m', 60 * 1000],
  ['s', 1000],
  ['ms', 1],
] as const;

/** Whole bytes, rounded down; undefined when `text` is not a size, or is too large for an exact number. */
export function parseSize(text: string): number | undefined {
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?) ?([a-z]*)$/i.exec(text) ?? [];
  const factor = SIZE_UNITS[unit.toLowerCase()];
  if (number === undefined || factor === undefined) return undefined;
  return safeFloor(Number(number) * factor);
}

/** Whole milliseconds, rounded down; undefined when `text` is not a duration. */
export function parseDuration(text: string): number | undefined {
  if (text === '0') return 0;
  if (!/^(?:\d+(?:\.\d+)?(?:ms|[wdhms]))+$/.test(text)) return undefined;
  let totalMs = 0;
  let smallest = -1;
  for (const [, number, unit] of text.matchAll(/([\d.]+)([a-z]+)/g)) {
    const rank = DURATION_UNITS.findIndex(([name]) => name === unit);
    if (rank <= smallest) return undefined;
    smallest = rank;
    totalMs += Number(number) * (DURATION_UNITS[rank]?.[1] ?? Number.NaN);
  }
  return safeFloor(totalMs);
}

/** For people, to about three digits: `50GiB`, `1.5MiB`, `17B`; `none` for Infinity. parseSize reads all but that. */
export function formatSize(bytes: number): string {
  if (bytes === Number.POSITIVE_INFINITY) return 'none';
  let value = bytes;
  let rank = 0;
  while (Math.round(value) >= KIBI && rank < BINARY_UNITS.length - 1) {
    value /= KIBI;
    rank++;
  }
  const decimals = rank === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${Number(value.toFixed(decimals))}${BINARY_UNITS[rank]}`;
}

/**
 * For people, in the two largest units that matter, rounded down: `1h30m`, `30d`, `1.5s`, `20ms`; `forever` for
 * Infinity. parseDuration reads all but that.
 */
export function formatDuration(ms: number): string {
  if (ms === Number.POSITIVE_INFINITY) return 'forever';
  if (ms < 1000) return ms < 1 ? '0s' : `${Math.floor(ms)}ms`;
  if (ms < 60_000) return `${Math.floor(ms / 100) / 10}s`;
  // Weeks are parsed but not formatted: 30d says more than 4w2d.
  const units = DURATION_UNITS.slice(1);
  const first = units.findIndex(([, unitMs]) => ms >= unitMs);
  let rest = ms;
  let text = '';
  for (const [name, unitMs] of units.slice(first, first + 2)) {
    const count = Math.floor(rest / unitMs);
    rest -= count * unitMs;
    if (count > 0) text += `${count}${name}`;
  }
  return text;
}

function safeFloor(value: number): number | undefined {
  const whole = Math.floor(value);
  return Number.isSafeInteger(whole) ? whole : undefined;
}
