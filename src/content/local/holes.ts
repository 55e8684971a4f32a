// Which bytes of a file have come that had several writers, each of which began at a multiple of WRITER_ALIGNMENT or where
// others had ended. No record is kept of that, which a crash could make a lie: a hole, like what was lost with the power,
// reads as zeros. So between two multiples there are bytes first and then, perhaps, zeros that stand for none. True zeros
// at such a place are taken for a hole as well, and fetched again; a hole of a few bytes is not seen, and the digest is
// wrong then.
import { Spans } from '../../base/spans.ts';
import type { DigestHasher } from '../../oci/digest.ts';
import { WRITER_ALIGNMENT } from '../ingest.ts';
import { readFully, type Source } from '../read.ts';

/** Fewer zeros than this are bytes. */
const LEAST_HOLE_BYTES = 512;
const ZEROS = Buffer.alloc(64 * 1024);

/** The spans that have come. Those from the first byte on are fed to the hasher. */
export async function findWritten(file: Pick<Source, 'read'>, hasher: DigestHasher): Promise<Spans> {
  const spans = new Spans();
  const buffer = Buffer.allocUnsafe(WRITER_ALIGNMENT);
  for (let start = 0; ; start += WRITER_ALIGNMENT) {
    const count = await readFully(file, buffer, start);
    const bytes = withoutHole(buffer.subarray(0, count));
    if (spans.endOf(0) === start) hasher.update(bytes);
    spans.add({ start, end: start + bytes.length });
    if (count < WRITER_ALIGNMENT) return spans;
  }
}

/** Without the zeros at the end, if they are many. */
function withoutHole(bytes: Buffer): Buffer {
  const hole = bytes.length - endOfBytes(bytes);
  return hole < LEAST_HOLE_BYTES ? bytes : bytes.subarray(0, bytes.length - hole);
}

/** Where the last byte ends that is not zero. */
function endOfBytes(bytes: Buffer): number {
  let end = bytes.length;
  for (let step = ZEROS.length; step >= 1; step = Math.floor(step / 16)) {
    while (end >= step && bytes.compare(ZEROS, 0, step, end - step, end) === 0) end -= step;
  }
  return end;
}
