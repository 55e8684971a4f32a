import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OpenUploads } from './open-uploads.ts';
import type { Upload } from './upload.ts';

interface FakeUpload extends Upload {
  idleMs: number;
  files: boolean;
}

function setUp() {
  const open = new OpenUploads();
  let count = 0;
  const upload = (client: string, idleMs = 0): FakeUpload => {
    const fake = {
      id: `${count++}`,
      client,
      idleMs,
      files: true,
      isBusy: false,
      isOver: false,
      restFile: () => {
        fake.files = false;
      },
      cancel: async () => {
        fake.isOver = true;
        open.remove(fake as unknown as Upload);
      },
    };
    return fake as unknown as FakeUpload;
  };
  const empties = async (client: string, number: number) => {
    const all = Array.from({ length: number }, () => upload(client));
    for (const each of all) await open.add(each);
    return all;
  };
  const begun = (client: string, number: number, idleMs = 0) => {
    const all = Array.from({ length: number }, () => upload(client, idleMs));
    for (const each of all) open.begin(each);
    return all;
  };
  return { open, upload, empties, begun };
}

const overOf = (uploads: readonly Upload[]) => uploads.filter(({ isOver }) => isOver).length;

test('empty uploads of one client displace each other, the oldest first, and none of another client', async () => {
  const { open, empties } = setUp();
  const [other] = await empties('10.0.0.2', 1);
  const many = await empties('10.0.0.1', 5_000);
  assert.equal(overOf(many), 0);
  const more = await empties('10.0.0.1', 100);
  assert.deepEqual(
    many.map(({ isOver }) => isOver),
    many.map((_, i) => i < 100),
  );
  assert.equal(overOf([other as Upload, ...more]), 0);
  assert.equal(open.find(many[0]?.id ?? ''), undefined);
});

test('empty uploads of all clients displace the oldest of all', async () => {
  const { open, empties } = setUp();
  const all = [];
  for (let i = 0; i < 100; i++) all.push(...(await empties(`10.0.0.${i}`, 100)));
  assert.equal(overOf(all), 0);
  await empties('10.0.1.1', 150);
  assert.deepEqual(
    all.map(({ isOver }) => isOver),
    all.map((_, i) => i < 150),
  );
  assert.equal([...open.all()].length, 10_000);
});

test('an empty upload that is being served does not go, nor one that has bytes', async () => {
  const { open, empties } = setUp();
  const [busy, begun, third] = await empties('10.0.0.1', 3);
  if (!busy || !begun || !third) assert.fail();
  busy.isBusy = true;
  open.begin(begun);
  await empties('10.0.0.1', 4_999);
  assert.deepEqual([busy.isOver, begun.isOver, third.isOver], [false, false, true]);
});

test('uploads with bytes have a bound for each client and for all, and say so', async () => {
  const { open, begun, empties } = setUp();
  await empties('10.0.0.1', 1_000);
  await open.makeRoom('10.0.0.1');
  const [first] = begun('10.0.0.1', 500);
  const isLimited = {
    code: 'TOOMANYREQUESTS',
    retryAfterMs: 60_000,
    message: /^500 uploads of 10\.0\.0\.1 have begun/,
  };
  await assert.rejects(open.makeRoom('10.0.0.1'), isLimited);
  await open.makeRoom('10.0.0.2');
  begun('10.0.0.2', 499);
  begun('10.0.0.3', 1);
  await assert.rejects(open.makeRoom('10.0.0.4'), { code: 'TOOMANYREQUESTS', message: /^1000 uploads have begun/ });
  await first?.cancel();
  await open.makeRoom('10.0.0.4');
  await open.makeRoom('10.0.0.1');
});

test('among them the one that has been idle longest makes way, if that is more than a minute', async () => {
  const { open, begun } = setUp();
  begun('10.0.0.1', 498);
  const [shorter] = begun('10.0.0.1', 1, 70_000);
  const [longest] = begun('10.0.0.1', 1, 80_000);
  if (!shorter || !longest) assert.fail();
  await open.makeRoom('10.0.0.1');
  assert.deepEqual([shorter.isOver, longest.isOver], [false, true]);
  begun('10.0.0.1', 1);
  shorter.idleMs = 60_000;
  await assert.rejects(open.makeRoom('10.0.0.1'), { code: 'TOOMANYREQUESTS' });
});

test('few that wait for their clients hold files open, those that were used last', () => {
  const { open, begun } = setUp();
  const all = begun('10.0.0.1', 100);
  for (const each of all) open.idled(each);
  const [first] = all;
  assert.equal(first?.files, false);
  assert.equal(all.filter(({ files }) => files).length, 16);
  assert.ok(all.slice(-16).every(({ files }) => files));
});

test('nothing is left of what is over', async () => {
  const { open, empties, begun } = setUp();
  const all = [...(await empties('10.0.0.1', 3)), ...begun('10.0.0.1', 3)];
  for (const each of all) open.idled(each);
  for (const each of all) await each.cancel();
  assert.deepEqual([...open.all()], []);
  await empties('10.0.0.1', 5_000);
  assert.equal([...open.all()].length, 5_000);
});
