// The thread of reading.ts: answers one question after another.
import { parentPort } from 'node:worker_threads';
import { inspectManifest, type ManifestInfo } from './manifest.ts';

export type Question =
  | { readonly verb: 'manifest'; readonly bytes: Uint8Array; readonly contentType: string | undefined }
  /** Lines to be sorted, each once. */
  | { readonly verb: 'sort'; readonly lines: string };
export type Answer = ManifestInfo | string;

parentPort?.on('message', (question: Question) => parentPort?.postMessage(answer(question)));

function answer(question: Question): Answer {
  if (question.verb === 'manifest') return inspectManifest(question.bytes, question.contentType);
  return [...new Set(question.lines.split('\n'))].sort().join('\n');
}
