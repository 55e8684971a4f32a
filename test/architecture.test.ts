// Holds the shape of src/: dependency points downward only, implementations are named by the composition
// root alone, what is pure stays pure, and no files import each other in a circle. The checker works on a
// graph of imports, so that it can be shown a bad one too.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { describe, test } from 'node:test';

/** From the top down: a room may import from itself and from those in lower rows. */
const ROWS = [
  ['cli'],
  ['http'],
  ['push'],
  ['pull'],
  ['space'],
  ['upstream'],
  ['content', 'metadata'],
  ['oci'],
];
/** Beside the rows: imported by cli alone, and importing from oci at most. */
const CONFIG = 'config';
/** Imported by all, importing nothing. */
const SHARED = ['clock.ts', 'log.ts', 'slabs.ts'];
/** Named by their own room and by cli alone. */
const IMPLEMENTATION = /^(content\/(disk.*|shared-file)|metadata\/(sqlite|migrations))\.ts$/;
const PURE: Record<string, readonly string[]> = {
  oci: ['node:crypto'],
  'clock.ts': [],
  'log.ts': [],
  'slabs.ts': [],
};

/** What each file under src/ imports: a path under src/, or the name of a package or of a module of Node. */
type Graph = Record<string, readonly string[]>;

function roomOf(file: string): string {
  return file.split('/', 1)[0] ?? file;
}

function rowOf(room: string): number {
  return ROWS.findIndex(row => row.includes(room));
}

/** Why a room must not import another; undefined when it may. */
function wrongDirection(from: string, to: string): string | undefined {
  if (from === to || SHARED.includes(to)) return undefined;
  if (to === CONFIG) return from === 'cli' ? undefined : 'config is for cli alone';
  if (from === CONFIG) return to === 'oci' ? undefined : 'config imports from oci at most';
  const [above, below] = [rowOf(from), rowOf(to)];
  if (above < 0 || below < 0) return 'a room that is not in the list';
  return above < below ? undefined : 'not downward';
}

function violationsOf(graph: Graph): string[] {
  const found: string[] = [];
  for (const [file, imports] of Object.entries(graph)) {
    const room = roomOf(file);
    for (const target of imports) {
      const say = (why: string) => found.push(`${file} imports ${target}: ${why}`);
      const isOurs = target in graph || /\.ts$/.test(target);
      if (isOurs && !(target in graph)) say('no such file');
      else if (isOurs) {
        const why = wrongDirection(room, roomOf(target));
        if (why !== undefined) say(why);
        if (IMPLEMENTATION.test(target) && room !== 'cli' && room !== roomOf(target)) {
          say('only cli names implementations');
        }
      } else if (PURE[room]?.includes(target) === false) say('it does no I/O');
    }
  }
  return [...found, ...circlesOf(graph)];
}

/** Each circle of imports once, from the file that it was entered by. */
function circlesOf(graph: Graph): string[] {
  const found: string[] = [];
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]) => {
    const at = path.indexOf(file);
    if (at >= 0) found.push(`circle: ${[...path.slice(at), file].join(' → ')}`);
    if (at >= 0 || done.has(file)) return;
    for (const target of graph[file] ?? []) if (target in graph) visit(target, [...path, file]);
    done.add(file);
  };
  for (const file of Object.keys(graph)) visit(file, []);
  return found;
}

const IMPORT = /\b(?:import|export)\b[^'"`;]*?\bfrom\s*'([^']+)'|\bimport\s*\(?\s*'([^']+)'/g;

function importsOf(file: string, text: string): string[] {
  return [...text.matchAll(IMPORT)].map(([, from, bare]) => {
    const target = from ?? bare ?? '';
    return target.startsWith('.') ? posix.join(posix.dirname(file), target) : target;
  });
}

function readGraph(root: string): Graph {
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
    .map(file => file.replaceAll('\\', '/'))
    .filter(file => file.endsWith('.ts') && !file.endsWith('.test.ts'));
  return Object.fromEntries(
    files.map(file => [file, importsOf(file, readFileSync(join(root, file), 'utf8'))]),
  );
}

describe('the sources', () => {
  const graph = readGraph(join(import.meta.dirname, '../src'));

  test('are read: what is known to import something is seen to do so', () => {
    assert.ok(Object.keys(graph).length > 30);
    assert.ok(graph['cli/serve.ts']?.includes('content/disk.ts'));
    assert.ok(graph['oci/digest.ts']?.includes('node:crypto'));
    assert.ok(graph['oci/reference.ts']?.includes('oci/digest.ts'));
    assert.ok(graph['pull/bypass.ts']?.includes('clock.ts'));
  });

  test('depend downward only, name no implementations, and have no circles', () => {
    assert.deepEqual(violationsOf(graph), []);
  });
});

describe('the checker', () => {
  test('reads every form of import', () => {
    const text = `
      import a from './a.ts';
      import { b, type B } from '../oci/b.ts';
      import type {
        C,
      } from '../oci/c.ts';
      import * as d from 'node:fs';
      import './e.ts';
      export { f } from './f.ts';
      export * from './g.ts';
      const h = await import('./h.ts');
      const text = 'not one from any';
    `;
    assert.deepEqual(importsOf('pull/x.ts', text), [
      ...['pull/a.ts', 'oci/b.ts', 'oci/c.ts', 'node:fs', 'pull/e.ts', 'pull/f.ts', 'pull/g.ts', 'pull/h.ts'],
    ]);
  });

  const files = ['cli/a.ts', 'config/a.ts', 'http/a.ts', 'pull/a.ts', 'space/a.ts', 'upstream/a.ts'];
  const more = [
    'content/a.ts',
    'content/disk-x.ts',
    'metadata/a.ts',
    'metadata/sqlite.ts',
    'oci/a.ts',
    'clock.ts',
  ];
  const graphOf = (edges: Graph): Graph => ({
    ...Object.fromEntries([...files, ...more, 'extra/a.ts'].map(file => [file, []])),
    ...edges,
  });

  const good: Graph = {
    'cli/a.ts': ['http/a.ts', 'config/a.ts', 'content/disk-x.ts', 'metadata/sqlite.ts', 'clock.ts'],
    'http/a.ts': ['pull/a.ts', 'oci/a.ts', 'hono'],
    'pull/a.ts': ['space/a.ts', 'upstream/a.ts', 'content/a.ts', 'metadata/a.ts', 'clock.ts'],
    'space/a.ts': ['content/a.ts', 'metadata/a.ts'],
    'content/a.ts': ['content/disk-x.ts', 'oci/a.ts', 'node:fs'],
    'config/a.ts': ['oci/a.ts', 'yaml'],
    'oci/a.ts': ['node:crypto'],
  };
  test('has nothing against imports that are as they should be', () => {
    assert.deepEqual(violationsOf(graphOf(good)), []);
  });

  const bad: [file: string, target: string, why: string][] = [
    ['oci/a.ts', 'content/a.ts', 'not downward'],
    ['oci/a.ts', 'node:fs', 'it does no I/O'],
    ['oci/a.ts', 'undici', 'it does no I/O'],
    ['clock.ts', 'node:timers/promises', 'it does no I/O'],
    ['clock.ts', 'oci/a.ts', 'a room that is not in the list'],
    ['content/a.ts', 'metadata/a.ts', 'not downward'],
    ['metadata/a.ts', 'content/a.ts', 'not downward'],
    ['upstream/a.ts', 'space/a.ts', 'not downward'],
    ['space/a.ts', 'pull/a.ts', 'not downward'],
    ['pull/a.ts', 'http/a.ts', 'not downward'],
    ['http/a.ts', 'cli/a.ts', 'not downward'],
    ['http/a.ts', 'config/a.ts', 'config is for cli alone'],
    ['config/a.ts', 'upstream/a.ts', 'config imports from oci at most'],
    ['pull/a.ts', 'content/disk-x.ts', 'only cli names implementations'],
    ['space/a.ts', 'metadata/sqlite.ts', 'only cli names implementations'],
    ['pull/a.ts', 'extra/a.ts', 'a room that is not in the list'],
    ['pull/a.ts', 'pull/gone.ts', 'no such file'],
  ];
  for (const [file, target, why] of bad) {
    test(`objects to ${file} importing ${target}`, () => {
      assert.deepEqual(violationsOf(graphOf({ [file]: [target] })), [`${file} imports ${target}: ${why}`]);
    });
  }

  test('objects to circles, short ones and long ones', () => {
    assert.deepEqual(violationsOf({ 'oci/a.ts': ['oci/a.ts'] }), ['circle: oci/a.ts → oci/a.ts']);
    assert.deepEqual(
      violationsOf({
        'oci/a.ts': ['oci/b.ts'],
        'oci/b.ts': ['oci/c.ts'],
        'oci/c.ts': ['oci/b.ts', 'oci/d.ts'],
        'oci/d.ts': [],
      }),
      ['circle: oci/b.ts → oci/c.ts → oci/b.ts'],
    );
  });
});
