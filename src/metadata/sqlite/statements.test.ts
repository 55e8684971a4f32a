import assert from 'node:assert/strict';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import { migrate } from './migrations.ts';
import { prepare, type Statements } from './statements.ts';

function planOf(name: keyof Statements, ...values: unknown[]): string {
  const database = new Database(':memory:');
  migrate(database, ':memory:');
  const { source } = prepare(database)[name];
  const rows = database.prepare(`EXPLAIN QUERY PLAN ${source}`).all(...values) as { readonly detail: string }[];
  return rows.map(({ detail }) => detail).join('\n');
}

test('what goes first is found by an index, without sorting content or reading all of it', () => {
  const plan = planOf('leastRecentlyUsed', 0, '', 10);
  assert.match(plan, /^SEARCH content USING INDEX content_by_touch \(\(touched_at_ms,digest\)>\(\?,\?\)\)$/m);
  assert.doesNotMatch(plan, /SCAN|TEMP B-TREE/);
});

test('what is pinned is found from the pins, without reading all links, tags, parts or content', () => {
  const plan = planOf('pinned', '[]');
  assert.match(plan, /SEARCH parts USING PRIMARY KEY \(manifest=\?\)/);
  assert.match(plan, /SEARCH tags USING PRIMARY KEY \(repository_id=\? AND tag=\?\)/);
  assert.doesNotMatch(plan, /SCAN (parts|links|tags|repositories|content)\b/);
});
