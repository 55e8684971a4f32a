import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Exchange } from './exchange.ts';
import { InFlight } from './in-flight.ts';

/** As far as it matters here. */
function exchange(image: string | undefined, isPush = false): Exchange {
  return { image, isPush, isCut: false } as Exchange;
}

test('what is in flight is counted by kind, and the first few images are named', () => {
  const inFlight = new InFlight();
  assert.equal(inFlight.describe(), undefined);
  const digest = `sha256:${'0123456789abcdef'.repeat(4)}`;
  const first = exchange(`ghcr.io/owner/app@${digest}`);
  const place = inFlight.add(first);
  assert.equal(inFlight.describe(), '1 pull (ghcr.io/owner/app@sha256:0123456789ab…)');
  inFlight.add(exchange('ghcr.io/owner/app:v1', true));
  inFlight.add(exchange('ghcr.io/owner/app:v1', true));
  const two = 'ghcr.io/owner/app@sha256:0123456789ab…, ghcr.io/owner/app:v1';
  assert.equal(inFlight.describe(), `1 pull and 2 pushes (${two})`);
  inFlight.add(exchange(undefined));
  assert.equal(inFlight.describe(), `2 pulls and 2 pushes (${two}, …)`);
  for (const name of ['b', 'c', 'd']) inFlight.add(exchange(`ghcr.io/${name}`, true));
  assert.equal(inFlight.describe(), `2 pulls and 5 pushes (${two}, ghcr.io/b, …)`);
  inFlight.delete(place);
  assert.match(
    inFlight.describe() ?? '',
    /^1 pull and 5 pushes \(ghcr\.io\/owner\/app:v1, ghcr\.io\/b, ghcr\.io\/c, …\)$/,
  );
});

test('what is cut is marked, and told', () => {
  const inFlight = new InFlight();
  assert.equal(inFlight.cut(), undefined);
  const pull = exchange('ghcr.io/owner/app:v1');
  inFlight.add(pull);
  assert.equal(inFlight.cut(), '1 pull (ghcr.io/owner/app:v1)');
  assert.equal(pull.isCut, true);
});

test('a request that names no image is counted alone', () => {
  const inFlight = new InFlight();
  inFlight.add(exchange(undefined));
  assert.equal(inFlight.describe(), '1 pull');
});
