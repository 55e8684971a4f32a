// Holds the shape of src/. Three rules, none of which names a file:
// 1. a module imports its own files and those of modules in lower rows;
// 2. of content, metadata and coordination, what stands in a subdirectory is an implementation: only that directory
//    itself and compose/ import it;
// 3. oci/ and base/ do no I/O, and no file imports itself, through whatever others.
// The checker works on a graph of imports, so that it can be shown a bad one too.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { describe, test } from 'node:test';

/** From the top down. */
const ROWS = [
  ['cli'],
  ['compose'],
  ['http', 'config'],
  ['access', 'operations', 'push'],
  ['pull'],
  ['retention', 'upstream'],
  ['content', 'metadata', 'coordination', 'credentials'],
  ['telemetry', 'oci'],
  ['base'],
];
/** Neighbours in a row that may be imported all the same. */
const SIDEWAYS: Record<string, readonly string[]> = { operations: ['push'] };
/** Modules with contracts, and implementations in subdirectories. */
const CONTRACTS = ['content', 'metadata', 'coordination'];
/** What is imported by the two at the top alone. */
const FOR_THE_TOP = ['config', 'compose'];
const PURE: Record<string, readonly string[]> = {
  oci: ['node:crypto', 'node:module', 'node:path', 'node:worker_threads'],
  base: ['node:crypto', 'node:module'],
};
const LINES_LIMIT = 300;

/** What each file under src/ imports: a path under src/, or the name of a package or of a module of Node. */
type Graph = Record<string, readonly string[]>;

function moduleOf(file: string): string {
  return file.split('/', 1)[0] ?? file;
}

function rowOf(module: string): number {
  return ROWS.findIndex(row => row.includes(module));
}

/** Why a module must not import another; undefined when it may. */
function wrongDirection(from: string, to: string): string | undefined {
  if (from === to || SIDEWAYS[from]?.includes(to)) return undefined;
  const [above, below] = [rowOf(from), rowOf(to)];
  if (above < 0 || below < 0) return 'a module that has no row';
  if (FOR_THE_TOP.includes(to) && !['cli', 'compose'].includes(from)) return `${to} is for cli and compose`;
  return above < below ? undefined : 'not downward';
}

/** Whether a file is an implementation that this other file must not name. */
function isHidden(file: string, from: string): boolean {
  const directory = posix.dirname(file);
  return (
    CONTRACTS.includes(moduleOf(file)) &&
    directory !== moduleOf(file) &&
    moduleOf(from) !== 'compose' &&
    !posix.dirname(from).startsWith(directory)
  );
}

function violationsOf(graph: Graph): string[] {
  const found: string[] = [];
  for (const [file, imports] of Object.entries(graph)) {
    const module = moduleOf(file);
    for (const target of imports) {
      const say = (why: string) => found.push(`${file} imports ${target}: ${why}`);
      const isOurs = target in graph || /\.ts$/.test(target);
      if (isOurs && !(target in graph)) say('no such file');
      else if (isOurs) {
        const why = wrongDirection(module, moduleOf(target));
        if (why !== undefined) say(why);
        if (isHidden(target, file)) say('only compose names implementations');
      } else if (target.startsWith('node:') && PURE[module]?.includes(target) === false) say('it does no I/O');
    }
  }
  return [...found, ...cyclesOf(graph)];
}

/** Each import cycle once, from the file that it was entered by. */
function cyclesOf(graph: Graph): string[] {
  const found: string[] = [];
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]) => {
    const at = path.indexOf(file);
    if (at >= 0) found.push(`cycle: ${[...path.slice(at), file].join(' → ')}`);
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

function readSources(root: string): Record<string, string> {
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
    .map(file => file.replaceAll('\\', '/'))
    .filter(file => file.endsWith('.ts') && !file.endsWith('.test.ts'));
  return Object.fromEntries(files.map(file => [file, readFileSync(join(root, file), 'utf8')]));
}

describe('the sources', () => {
  const sources = readSources(join(import.meta.dirname, '../src'));
  const graph: Graph = Object.fromEntries(Object.entries(sources).map(([file, text]) => [file, importsOf(file, text)]));

  test('are read, with what they import', () => {
    assert.ok(Object.keys(graph).length > 30);
    assert.ok(Object.values(graph).flat().length > 200);
  });

  test('depend downward only, name no implementations, and have no cycles', () => {
    assert.deepEqual(violationsOf(graph), []);
  });

  test(`have no file of more than ${LINES_LIMIT} lines`, () => {
    const long = Object.entries(sources)
      .map(([file, text]) => ({ file, lines: text.split('\n').length - 1 }))
      .filter(({ lines }) => lines > LINES_LIMIT);
    assert.deepEqual(long, []);
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

  const files = [
    ...['cli/a.ts', 'compose/a.ts', 'config/a.ts', 'http/a.ts', 'http/sub/a.ts', 'push/a.ts', 'operations/a.ts'],
    ...['pull/a.ts', 'retention/a.ts', 'upstream/a.ts', 'upstream/sub/a.ts', 'content/a.ts', 'content/local/a.ts'],
    ...['content/local/b.ts', 'metadata/a.ts', 'metadata/sqlite/a.ts', 'oci/a.ts', 'base/a.ts', 'extra/a.ts'],
  ];
  const graphOf = (edges: Graph): Graph => ({
    ...Object.fromEntries(files.map(file => [file, []])),
    ...edges,
  });

  const good: Graph = {
    'cli/a.ts': ['compose/a.ts', 'config/a.ts', 'base/a.ts'],
    'compose/a.ts': ['http/a.ts', 'config/a.ts', 'content/local/a.ts', 'metadata/sqlite/a.ts'],
    'http/a.ts': ['push/a.ts', 'pull/a.ts', 'http/sub/a.ts', 'oci/a.ts', 'hono'],
    'operations/a.ts': ['push/a.ts', 'pull/a.ts'],
    'pull/a.ts': ['retention/a.ts', 'upstream/a.ts', 'upstream/sub/a.ts', 'content/a.ts', 'metadata/a.ts'],
    'retention/a.ts': ['content/a.ts', 'metadata/a.ts'],
    'content/local/a.ts': ['content/a.ts', 'content/local/b.ts', 'oci/a.ts', 'node:fs'],
    'config/a.ts': ['oci/a.ts', 'base/a.ts', 'yaml'],
    'oci/a.ts': ['node:crypto', 'base/a.ts'],
    'base/a.ts': ['lru-cache'],
  };
  test('has nothing against imports that are as they should be', () => {
    assert.deepEqual(violationsOf(graphOf(good)), []);
  });

  const bad: [file: string, target: string, why: string][] = [
    ['oci/a.ts', 'content/a.ts', 'not downward'],
    ['oci/a.ts', 'node:fs', 'it does no I/O'],
    ['base/a.ts', 'node:timers/promises', 'it does no I/O'],
    ['base/a.ts', 'oci/a.ts', 'not downward'],
    ['content/a.ts', 'metadata/a.ts', 'not downward'],
    ['metadata/a.ts', 'content/a.ts', 'not downward'],
    ['upstream/a.ts', 'retention/a.ts', 'not downward'],
    ['retention/a.ts', 'pull/a.ts', 'not downward'],
    ['pull/a.ts', 'push/a.ts', 'not downward'],
    ['push/a.ts', 'operations/a.ts', 'not downward'],
    ['pull/a.ts', 'http/a.ts', 'not downward'],
    ['http/a.ts', 'compose/a.ts', 'compose is for cli and compose'],
    ['http/a.ts', 'config/a.ts', 'config is for cli and compose'],
    ['pull/a.ts', 'content/local/a.ts', 'only compose names implementations'],
    ['cli/a.ts', 'metadata/sqlite/a.ts', 'only compose names implementations'],
    ['content/a.ts', 'content/local/a.ts', 'only compose names implementations'],
    ['pull/a.ts', 'extra/a.ts', 'a module that has no row'],
    ['pull/a.ts', 'pull/gone.ts', 'no such file'],
  ];
  for (const [file, target, why] of bad) {
    test(`objects to ${file} importing ${target}`, () => {
      assert.deepEqual(violationsOf(graphOf({ [file]: [target] })), [`${file} imports ${target}: ${why}`]);
    });
  }

  test('objects to cycles, short ones and long ones', () => {
    assert.deepEqual(violationsOf({ 'oci/a.ts': ['oci/a.ts'] }), ['cycle: oci/a.ts → oci/a.ts']);
    assert.deepEqual(
      violationsOf({
        'oci/a.ts': ['oci/b.ts'],
        'oci/b.ts': ['oci/c.ts'],
        'oci/c.ts': ['oci/b.ts', 'oci/d.ts'],
        'oci/d.ts': [],
      }),
      ['cycle: oci/b.ts → oci/c.ts → oci/b.ts'],
    );
  });
});
