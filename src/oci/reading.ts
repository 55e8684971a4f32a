// Reading what may be large, off the event loop: all that one client's or one upstream's megabytes of JSON cost is then a
// thread, one for the process, which is started when it is first needed. What is small, as nearly everything is, is read
// where it stands.
import module from 'node:module';
import { dirname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { inspectManifest, type ManifestInfo } from './manifest.ts';
import type { Answer, Question } from './reading-worker.ts';
import { tagsIn } from './reference.ts';

const LARGE_BYTES = 64 * 1024;
const LARGE_LIST = 5_000;
/** What the thread's heap may grow to: twice what the largest manifest takes. */
const HEAP = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 8 };

/** Reads a manifest that came with this Content-Type; never rejects for what is wrong with it. */
export async function readManifest(bytes: Uint8Array, contentType: string | undefined): Promise<ManifestInfo> {
  if (bytes.byteLength <= LARGE_BYTES) return inspectManifest(bytes, contentType);
  return ask<ManifestInfo>({ verb: 'manifest', bytes, contentType });
}

/**
 * The tags of a page of a list (distribution spec 1.1, "Listing Tags"), without what cannot be a tag; undefined when it
 * is no such page.
 */
export async function readTags(bytes: Uint8Array): Promise<string[] | undefined> {
  if (bytes.byteLength <= LARGE_BYTES) return tagsIn(bytes);
  const lines = await ask<string | undefined>({ verb: 'tags', bytes });
  return lines === '' ? [] : lines?.split('\n');
}

/** Each of the texts once, in the order of their UTF-16 code units. No text may contain a line break. */
export async function sortedOnce(texts: readonly string[]): Promise<string[]> {
  if (texts.length <= LARGE_LIST) return [...new Set(texts)].sort();
  // One long text crosses to a thread at the cost of a copy, a list at that of each of its members.
  return (await ask<string>({ verb: 'sort', lines: texts.join('\n') })).split('\n');
}

interface Asked {
  readonly question: Question;
  resolve(answer: unknown): void;
  reject(error: Error): void;
}

/** In the order in which they were asked; the first is with the thread, and only its bytes exist twice. */
const asked: Asked[] = [];
let thread: Worker | undefined;

function ask<T>(question: Question): Promise<T> {
  return new Promise((resolve, reject) => {
    asked.push({ question, resolve: answer => resolve(answer as T), reject });
    if (asked.length === 1) send(question);
  });
}

function send(question: Question): void {
  thread ??= start();
  thread.ref();
  thread.postMessage(question);
}

function start(): Worker {
  const started = new Worker(workerCode(), { eval: true, resourceLimits: HEAP });
  started.on('message', (answer: Answer) => {
    // While nothing is asked it does not keep the process alive.
    started.unref();
    next()?.resolve(answer);
  });
  // It ran out of memory, or could not start: the next question starts another one.
  started.on('error', error => {
    thread = undefined;
    next()?.reject(error);
  });
  return started;
}

/** Loads the thread's module, compiled from the cache that this thread uses: to strip its types takes 20 MB. */
function workerCode(): string {
  // Sources have one ending, the published package another.
  const url = new URL(`./reading-worker${import.meta.filename.slice(-3)}`, import.meta.url);
  const cache = module.getCompileCacheDir();
  const enable = cache && `require('node:module').enableCompileCache(${JSON.stringify(dirname(cache))});`;
  return `${enable ?? ''} import(${JSON.stringify(url.href)});`;
}

/** Takes the question that is answered from the queue, and sends the one behind it. */
function next(): Asked | undefined {
  const answered = asked.shift();
  if (asked[0] !== undefined) send(asked[0].question);
  return answered;
}
