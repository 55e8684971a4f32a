import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertRejected, load } from '../../../test/support/config.ts';

const DIGEST = `sha256:${'0'.repeat(64)}`;

test('each pin is one image', () => {
  const { pins } = load(`
upstreams: { quay.io: {}, "registry:5000": {} }
default: quay.io
pins: [acme/app:stable, ghcr.io/acme/app, "registry:5000/app:v1", "acme/app@${DIGEST}", "acme/app:v1@${DIGEST}"]
`);
  assert.deepEqual(pins, [
    { repository: { upstream: 'quay.io', name: 'acme/app' }, reference: { tag: 'stable' } },
    { repository: { upstream: 'ghcr.io', name: 'acme/app' }, reference: { tag: 'latest' } },
    { repository: { upstream: 'registry:5000', name: 'app' }, reference: { tag: 'v1' } },
    { repository: { upstream: 'quay.io', name: 'acme/app' }, reference: { digest: DIGEST } },
    { repository: { upstream: 'quay.io', name: 'acme/app' }, reference: { digest: DIGEST } },
  ]);
});

test('what is no image is rejected', () => {
  const problem = 'is not an image; write it like owner/image:tag or ghcr.io/owner/image:tag';
  assertRejected([
    ['pins: acme/app', '1: pins: "acme/app" is not a list'],
    ['pins: [5]', '1: pins[0]: 5 is not text; put it in quotes'],
    ['pins:\n  - acme/app\n  - Acme/App', `3: pins[1]: "Acme/App" ${problem}`],
    ['pins: ["acme/*"]', `1: pins[0]: "acme/*" ${problem}`],
    ['pins: ["acme/app@sha256:1"]', `1: pins[0]: "acme/app@sha256:1" ${problem}`],
    ['pins: [quay.io/acme/app]', '1: pins[0]: "quay.io/acme/app" is of quay.io, which is not one of the upstreams'],
  ]);
});
