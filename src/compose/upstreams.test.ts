import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { UpstreamConfig } from '../config/sections/upstreams.ts';
import type { OwnedCredential } from '../credentials/credential.ts';
import { credentialsFor } from './upstreams.ts';

const credential = (name: string): OwnedCredential => ({ name, owner: '*', read: () => assert.fail() });
const KEPT = { of: (host: string) => [credential(`kept for ${host}`)] };

test('what the config says comes before what was kept, and that before the environment', () => {
  const cases: [config: Partial<UpstreamConfig>, url: string, names: string[]][] = [
    [{ credentials: [], isUnwritten: true }, 'https://ghcr.io', ['kept for ghcr.io']],
    [{ credentials: [credential('CR_PAT')], isUnwritten: true }, 'https://ghcr.io', ['kept for ghcr.io', 'CR_PAT']],
    [{ credentials: [credential('ci')], isUnwritten: false }, 'https://ghcr.io', ['ci', 'kept for ghcr.io']],
    [{ credentials: [], isUnwritten: false }, 'https://ghcr.io', []],
    // Never over plain HTTP to another machine.
    [{ credentials: [], isUnwritten: true }, 'http://registry.lab', []],
    [{ credentials: [], isUnwritten: true }, 'http://127.0.0.1:5001', ['kept for ghcr.io']],
    [{ credentials: [], isUnwritten: true, api: new URL('http://api.lab') }, 'https://ghcr.io', []],
  ];
  for (const [config, url, names] of cases) {
    const found = credentialsFor('ghcr.io', { ...config, url: new URL(url) } as UpstreamConfig, KEPT);
    assert.deepEqual(
      found.map(({ name }) => name),
      names,
    );
  }
});
