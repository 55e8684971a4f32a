import assert from 'node:assert/strict';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import { migrate } from './migrations.ts';
import { prepare } from './statements.ts';

test('what goes first is found by indexes, without sorting content or reading all of it', () => {
  const database = new Database(':memory:');
  migrate(database, ':memory:');
  const { source } = prepare(database).leastRecentlyUsed;
  const rows = database.prepare(`EXPLAIN QUERY PLAN ${source}`).all('[]', 10) as Step[];
  const plan = rows.map(({ detail }) => detail).join('\n');
  // Only the few pins are sorted, in steps below.
  const outermost = rows.filter(({ parent }) => parent === 0).map(({ detail }) => detail);
  assert.deepEqual(outermost, ['SCAN content USING INDEX content_by_touch', outermost[1]]);
  assert.match(outermost[1] ?? '', /^LIST SUBQUERY/);
  assert.match(plan, /SEARCH parts USING PRIMARY KEY \(manifest=\?\)/);
  assert.match(plan, /SEARCH tags USING PRIMARY KEY \(repository_id=\? AND tag=\?\)/);
  assert.doesNotMatch(plan, /SCAN (parts|links|tags|repositories)\b/);
});

interface Step {
  readonly parent: number;
  readonly detail: string;
}
