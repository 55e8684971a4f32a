import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Ingest, StorageFailure } from '../content/content.ts';
import { digestOf } from '../oci/digest.ts';
import type { BlobBody } from '../upstream/upstream.ts';
import { Flight, type FlightDependencies } from './flight.ts';

const REPOSITORY = { upstream: 'ghcr.io', name: 'owner/app' };
const DIGEST = digestOf(Buffer.from('right'));

test('an ingest that cannot be opened for the second attempt ends the flight, though nobody follows', async () => {
  let ingests = 0;
  let requests = 0;
  const bytes = Buffer.from('wrong');
  const ingest = {
    writtenBytes: bytes.length,
    write: () => undefined,
    finish: async () => digestOf(bytes),
    abort: async () => {},
  } as unknown as Ingest;
  const body: BlobBody = {
    sizeBytes: bytes.length,
    contentType: undefined,
    start: 0,
    read: async take => void (await take(bytes)),
    close: () => {},
  };
  const warnings: string[] = [];
  const flight = new Flight(
    {
      content: {
        ingest: async () => {
          if (++ingests > 1) throw new StorageFailure('the disk is full');
          return ingest;
        },
      },
      metadata: { isRecorded: async () => false },
      budget: { reserve: async () => ({ take: () => undefined, settle: () => {}, release: () => {} }) },
      log: { warn: (_fields: object, message: string) => warnings.push(message) },
      signal: new AbortController().signal,
      upstream: () => ({
        acquireDownload: async () => () => {},
        openBlob: async () => {
          // The upstream takes its time, in which the failure is nobody's yet.
          if (++requests > 1) for (let i = 0; i < 10; i++) await new Promise(setImmediate);
          return body;
        },
      }),
    } as unknown as FlightDependencies,
    REPOSITORY,
    DIGEST,
  );
  await flight.over;
  assert.deepEqual([ingests, requests], [2, 2]);
  assert.match(warnings.join('\n'), /trying once more\n.*the disk is full/s);
  await assert.rejects(flight.follow(), StorageFailure);
});
