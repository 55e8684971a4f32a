import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

const EXIT = JSON.stringify(new URL('./exit.ts', import.meta.url).href);

test('the process ends at once, with its code and all that it wrote, though a thread of it waits for a disk', t => {
  const directory = mkdtempSync(join(tmpdir(), 'ghcr-cache-exit-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const pipe = join(directory, 'pipe');
  const made = spawnSync('mkfifo', [pipe]);
  if (made.status !== 0) return t.skip('this system makes no named pipes');
  // To open a pipe that nobody writes to takes a thread for ever.
  const script = `
    require('node:fs').open(${JSON.stringify(pipe)}, 'r', () => {});
    process.on('exit', code => process.stdout.write('last ' + code));
    import(${EXIT}).then(({ exit }) => {
      process.stdout.write('o'.repeat(60_000));
      process.stderr.write('e'.repeat(60_000));
      return exit(3);
    });`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8', timeout: 20_000 });
  assert.deepEqual([status, stderr.length], [3, 60_000], stderr.slice(0, 500));
  assert.equal(stdout, `${'o'.repeat(60_000)}last 3`);
});
