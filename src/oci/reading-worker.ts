// The thread of reading.ts: answers one question after another.
import { parentPort } from 'node:worker_threads';
import { inspectManifest, type ManifestInfo } from './manifest.ts';
import { tagsIn } from './reference.ts';

export type Question =
  | { readonly verb: 'manifest'; readonly bytes: Uint8Array; readonly contentType: string | undefined }
  /** A page of a list of tags; they are answered as lines. */
  | { readonly verb: 'tags'; readonly bytes: Uint8Array }
  /** Lines to be sorted, each once. */
  | { readonly verb: 'sort'; readonly lines: string };
export type Answer = ManifestInfo | string | undefined;

parentPort?.on('message', (question: Question) => {
  parentPort?.postMessage(answer(question));
  // This copy is of no more use. V8 would collect it when some 32 MB of them have come together.
  if ('bytes' in question && question.bytes.buffer instanceof ArrayBuffer) question.bytes.buffer.transfer(0);
});

function answer(question: Question): Answer {
  if (question.verb === 'manifest') return inspectManifest(question.bytes, question.contentType);
  if (question.verb === 'tags') return tagsIn(question.bytes)?.join('\n');
  return [...new Set(question.lines.split('\n'))].sort().join('\n');
}
