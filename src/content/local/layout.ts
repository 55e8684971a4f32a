// Where content and ingests are in a data directory, and the making of these places: for their owner alone, at the start,
// and again when they are removed under the running process.
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ALGORITHMS, type Algorithm, algorithmOf, type Digest, hexOf } from '../../oci/digest.ts';

/** For files that nobody but their owner reads. */
export const PRIVATE_FILE = 0o600;
export const PRIVATE_DIRECTORY = 0o700;

/** An OCI image layout. */
export function contentDirectory(root: string): string {
  return join(root, 'content');
}

export function blobsDirectory(root: string, algorithm: Algorithm): string {
  return join(contentDirectory(root), 'blobs', algorithm);
}

export function blobPath(root: string, digest: Digest): string {
  return join(blobsDirectory(root, algorithmOf(digest)), hexOf(digest));
}

export function ingestDirectory(root: string): string {
  return join(root, 'ingest');
}

/** Makes what is missing of the directories, and of the two files by which other OCI tools recognize content/. */
export async function makeLayout(root: string): Promise<void> {
  await makeDirectory(ingestDirectory(root));
  for (const algorithm of ALGORITHMS) await makeDirectory(blobsDirectory(root, algorithm));
  await writeOnce(join(contentDirectory(root), 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}\n');
  await writeOnce(join(contentDirectory(root), 'index.json'), '{"schemaVersion":2,"manifests":[]}\n');
}

/** Does the work; once more, after making what is missing of the layout, when it runs into something that is missing. */
export async function inLayout<T>(root: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    await makeLayout(root);
    return work();
  }
}

/**
 * Makes the directory, and those above it that are missing. Not by mkdir's own recursion, which never ends where a file
 * system, such as /proc, says of everything new that its parent is missing.
 */
export async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, PRIVATE_DIRECTORY);
  } catch (error) {
    if (await isDirectory(path)) return;
    const parent = dirname(path);
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || (await isDirectory(parent))) throw error;
    await makeDirectory(parent);
    await makeDirectory(path);
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    found => found.isDirectory(),
    () => false,
  );
}

async function writeOnce(path: string, text: string): Promise<void> {
  await writeFile(path, text, { flag: 'wx', mode: PRIVATE_FILE }).catch(error => {
    if (error.code !== 'EEXIST') throw error;
  });
}
