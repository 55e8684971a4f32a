// Sizes and durations as people write them. A size is a number of bytes, or a number and one of B,
// KiB/Ki … TiB/Ti (powers of 1024), KB … TB (powers of 1000), in upper or lower case; fractions are fine. A bare `512k`
// is rejected: programs differ by 2 to 10 percent on what it means. A duration is one or more of a number and ms, s, m, h,
// d or w, from large to small: `90s`, `1h30m`; a bare number is rejected, except for 0.

const SIZE_UNITS: Record<string, number> = { '': 1, b: 1 };
for (const [i, letter] of ['k', 'm', 'g', 't'].entries()) {
  SIZE_UNITS[`${letter}ib`] = SIZE_UNITS[`${letter}i`] = 1024 ** (i + 1);
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

function safeFloor(value: number): number | undefined {
  const whole = Math.floor(value);
  return Number.isSafeInteger(whole) ? whole : undefined;
}
