import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Destinations, type DestinationsOptions } from './destinations.ts';

interface Setting extends Partial<Omit<DestinationsOptions, 'registry'>> {
  readonly registry: string;
  /** What the registry's name resolves to. */
  readonly at?: readonly string[];
}

const addressesOf = (addresses: readonly string[]) =>
  addresses.map(address => ({ address, family: address.includes(':') ? 6 : 4 }));

function setUp({ registry, at, ...options }: Setting) {
  const url = new URL(registry);
  const destinations = new Destinations({ trusted: [], blobHosts: [], areAll: false, ...options, registry: url });
  if (at !== undefined) destinations.filter(url.hostname, addressesOf(at));
  /** Where a connection to this address may go to, as its name resolves; or the refusal. */
  const reach = (address: string, resolved: readonly string[] = []): string[] | string => {
    const target = new URL(address);
    try {
      destinations.check(target);
      return destinations.filter(target.hostname, addressesOf(resolved)).map(each => each.address);
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'UPSTREAM_INVALID');
      return (error as Error).message;
    }
  };
  return { destinations, reach };
}

const GHCR: Setting = {
  ...{ registry: 'https://ghcr.io', at: ['140.82.112.33'], trusted: ['api.github.com'] },
  ...{ blobHosts: ['*.githubusercontent.com'], areAll: true },
};
const QUAY: Setting = { registry: 'https://quay.io', at: ['3.4.5.6'] };

describe('ghcr.io', () => {
  test('may send us to itself, its API and GitHub’s blob hosts', () => {
    const { reach } = setUp(GHCR);
    for (const host of ['ghcr.io', 'api.github.com', 'pkg-containers.githubusercontent.com']) {
      assert.deepEqual(reach(`https://${host}/x`, ['1.2.3.4']), ['1.2.3.4']);
    }
  });

  test('may not send us to any other host, nor to an address, and the error says what to do', () => {
    const { reach } = setUp(GHCR);
    const others = [
      'evil.example',
      'githubusercontent.com',
      'xgithubusercontent.com',
      'a.githubusercontent.com.evil.example',
    ];
    for (const host of [...others, '1.1.1.1', '10.0.0.1', '127.0.0.1', 'localhost', '[::1]', '2130706433']) {
      const said = String(reach(`https://${host}/x`, ['1.2.3.4']));
      assert.match(said, /^ghcr\.io sends us to .*add its host to blobHosts of this upstream in the config$/, host);
    }
  });

  test('may send us to hosts that the config names, whatever they resolve to, but never to metadata services', () => {
    const { reach } = setUp({
      ...GHCR,
      blobHosts: ['cdn.corp.example', '10.0.0.9', 'port.example:8443', '*.s3.example'],
    });
    assert.deepEqual(reach('https://cdn.corp.example/', ['10.0.0.5']), ['10.0.0.5']);
    assert.deepEqual(reach('https://a.b.s3.example/', ['127.0.0.1']), ['127.0.0.1']);
    assert.deepEqual(reach('https://10.0.0.9/'), []);
    assert.deepEqual(reach('https://port.example:8443/', ['10.0.0.5']), ['10.0.0.5']);
    assert.match(String(reach('https://port.example/', ['10.0.0.5'])), /blobHosts/);
    assert.match(String(reach('https://cdn.corp.example/', ['169.254.169.254'])), /no registry may send us to/);
  });
});

describe('another upstream', () => {
  test('at a public address may send us to public addresses alone, by name or as they are', () => {
    const { reach } = setUp(QUAY);
    assert.deepEqual(reach('https://cdn.example/', ['1.2.3.4', '2606:4700::1']), ['1.2.3.4', '2606:4700::1']);
    assert.deepEqual(reach('https://1.2.3.4/'), []);
    for (const address of ['10.0.0.1', '127.0.0.1', '::1', 'fd12::1', '::ffff:10.0.0.1', '100.64.0.1']) {
      assert.match(
        String(reach('https://cdn.example/', [address])),
        /a (private|loopback) address.*blobHosts/,
        address,
      );
    }
    for (const host of [
      '10.0.0.1',
      '127.0.0.1',
      '[::1]',
      '0x7f.1',
      '2130706433',
      '[::ffff:127.0.0.1]',
      'localhost',
      'a.localhost',
    ]) {
      assert.match(String(reach(`https://${host}/`)), /a (private|loopback) address.*blobHosts/, host);
    }
  });

  test('whose host answers with addresses of both kinds gets the public ones', () => {
    const { reach } = setUp(QUAY);
    assert.deepEqual(reach('https://cdn.example/', ['127.0.0.1', '1.2.3.4', '10.0.0.1']), ['1.2.3.4']);
  });

  test('at a private address may send us to private addresses, and to its own machine if it is there', () => {
    const lab = setUp({ registry: 'https://registry.lab', at: ['192.168.1.5'] });
    assert.deepEqual(lab.reach('http://minio.lab:9000/', ['192.168.1.6']), ['192.168.1.6']);
    assert.match(String(lab.reach('http://minio.lab:9000/', ['127.0.0.1'])), /a loopback address/);
    const here = setUp({ registry: 'http://127.0.0.1:5000' });
    assert.deepEqual(here.reach('http://minio.test:9000/', ['127.0.0.1']), ['127.0.0.1']);
    assert.deepEqual(here.reach('http://172.17.0.3:9000/'), []);
    const named = setUp({ registry: 'http://localhost:5000' });
    assert.deepEqual(named.reach('http://127.0.0.1:9000/'), []);
  });

  test('is not at a private address because one of its addresses is', () => {
    const { reach } = setUp({ ...QUAY, at: ['3.4.5.6', '10.0.0.1'] });
    assert.match(String(reach('https://cdn.example/', ['10.0.0.1'])), /a private address/);
  });

  test('may never send us to a metadata service, wherever it is itself', () => {
    const { reach } = setUp({ registry: 'http://127.0.0.1:5000' });
    for (const host of [
      '169.254.169.254',
      '[fe80::1]',
      '[::ffff:a9fe:a9fe]',
      '0.0.0.0',
      '[::]',
      'metadata.google.internal',
    ]) {
      assert.match(String(reach(`http://${host}/latest`)), /which no registry may send us to, where it may not/, host);
    }
    assert.match(String(reach('http://cdn.example/', ['169.254.169.254'])), /169\.254\.169\.254, which no registry/);
  });
});
