// Content and ingests on a disk, in a directory that is gone when the test is over, and which files there are open.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Content } from '../../src/content/content.ts';
import { LocalIngests } from '../../src/content/local/ingest.ts';
import { LocalContent } from '../../src/content/local/store.ts';
import { algorithmOf, type Digest, hexOf } from '../../src/oci/digest.ts';
import type { StoresUnderTest } from '../contracts/content.ts';

export async function temporaryDirectory(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'ghcr-cache-content-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

export function pathOf(root: string, digest: Digest): string {
  return join(root, 'content/blobs', algorithmOf(digest), hexOf(digest));
}

/** As a process finds them that starts on this directory. */
export async function openStores(root: string): Promise<{ content: LocalContent; ingests: LocalIngests }> {
  return { content: await LocalContent.open(root), ingests: await LocalIngests.open(root) };
}

/** Local stores, the content behind what `decorate` puts before it. */
export async function openLocal(
  t: TestContext,
  decorate: (content: Content) => Content = content => content,
): Promise<StoresUnderTest & { readonly root: string }> {
  const root = await temporaryDirectory(t);
  const reopen = async () => {
    const { content, ingests } = await openStores(root);
    return { content: decorate(content), ingests };
  };
  return {
    ...(await reopen()),
    root,
    reopen,
    overwrite: async (digest, bytes) => {
      const path = pathOf(root, digest);
      const timeOf = async () => (await stat(path).catch(() => undefined))?.mtimeMs;
      const before = await timeOf();
      // The clock of files may stand still for some milliseconds.
      do await writeFile(path, bytes);
      while ((await timeOf()) === before);
    },
  };
}

/** Replaces a directory by a file, so that nothing can be put there. */
export async function inTheWay(directory: string): Promise<void> {
  await rm(directory, { recursive: true });
  await writeFile(directory, '');
}

export async function assertNothingOpen(root: string): Promise<void> {
  if (existsSync('/proc/self/fd')) assert.deepEqual(await openAtLast(root, 0), []);
}

/** Descriptors are given back in the background: waits until no more than so many are of files under `root`. */
export async function openAtLast(root: string, count: number): Promise<string[]> {
  let open = await openUnder(root);
  for (let tries = 0; tries < 1000 && open.length > count; tries++) open = await openUnder(root);
  return open;
}

/** The files under `root` that this process has open. */
export async function openUnder(root: string): Promise<string[]> {
  const targets = await Promise.all(
    (await readdir('/proc/self/fd')).map(fd => readlink(`/proc/self/fd/${fd}`).catch(() => '')),
  );
  return targets.filter(target => target.startsWith(root));
}
