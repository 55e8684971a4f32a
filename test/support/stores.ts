// Content and ingests as tests use them: bytes put in, read back, listed.
import assert from 'node:assert/strict';
import type { Content, Reader } from '../../src/content/content.ts';
import type { Ingest, Ingests } from '../../src/content/ingest.ts';
import { readFully } from '../../src/content/read.ts';
import type { Algorithm, Digest } from '../../src/oci/digest.ts';

export interface Stores {
  readonly content: Content;
  readonly ingests: Ingests;
}

/** Hands in a copy: an ingest may release the memory. */
export function write(ingest: Ingest, bytes: Uint8Array): Promise<void> | undefined {
  return ingest.write(Buffer.from(bytes));
}

/** Stores bytes as content; resolves to their digest. */
export async function put(
  { content, ingests }: Stores,
  bytes: Uint8Array,
  algorithm: Algorithm = 'sha256',
): Promise<Digest> {
  const ingest = await ingests.begin(algorithm);
  await write(ingest, bytes);
  const digest = await ingest.finish();
  await content.publish(ingest, digest);
  return digest;
}

/** All bytes of content that is here. */
export async function read(content: Content, digest: Digest): Promise<Buffer> {
  const source = (await content.open(digest)) ?? assert.fail(`${digest} is not here`);
  return drain(source, source.sizeBytes);
}

/** Reads from `start` to `end`, which there must be, and closes. */
export async function drain(reader: Reader, end: number, start = 0): Promise<Buffer> {
  const bytes = Buffer.alloc(end - start);
  assert.equal(await readFully(reader, bytes, start), bytes.length, 'it ends too early');
  reader.close();
  return bytes;
}

/** Each as `digest size`, in order. */
export async function namesIn(content: Content): Promise<string[]> {
  const names: string[] = [];
  for await (const { digest, sizeBytes } of content.list()) names.push(`${digest} ${sizeBytes}`);
  return names.sort();
}
