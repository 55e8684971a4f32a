// Writes image layers in the tar format (POSIX ustar, the parts needed here): the same entries give the same bytes on
// every machine.

export type TarEntry =
  | { readonly path: string; readonly bytes: Uint8Array; readonly mode?: number }
  | { readonly path: string; readonly linkTo: string };

const BLOCK_BYTES = 512;

export function tar(entries: readonly TarEntry[]): Buffer {
  const parts: Uint8Array[] = [];
  for (const entry of entries) {
    parts.push(header(entry));
    if ('bytes' in entry) parts.push(entry.bytes, Buffer.alloc(-entry.bytes.length & (BLOCK_BYTES - 1)));
  }
  return Buffer.concat([...parts, Buffer.alloc(2 * BLOCK_BYTES)]);
}

function header(entry: TarEntry): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  const file = 'bytes' in entry;
  block.write(entry.path, 0, 100);
  block.write(octal(file ? (entry.mode ?? 0o644) : 0o777, 8), 100);
  block.write(octal(0, 8), 108); // user
  block.write(octal(0, 8), 116); // group
  block.write(octal(file ? entry.bytes.length : 0, 12), 124);
  block.write(octal(0, 12), 136); // time
  block.write(' '.repeat(8), 148); // the checksum counts as spaces while it is computed
  block.write(file ? '0' : '2', 156);
  if (!file) block.write(entry.linkTo, 157, 100);
  block.write('ustar\0' + '00', 257);
  block.write(
    octal(
      block.reduce((sum, byte) => sum + byte, 0),
      7,
    ),
    148,
  );
  return block;
}

/** A number in a field of `width` bytes, the last of them a NUL. */
function octal(value: number, width: number): string {
  return `${value.toString(8).padStart(width - 1, '0')}\0`;
}
