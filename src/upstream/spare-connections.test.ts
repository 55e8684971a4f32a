import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TestClock } from '../../test/support/clock.ts';
import type { Permit } from './permits.ts';
import { SpareConnections, type SpareUser } from './spare-connections.ts';

const MIB = 1024 * 1024;

/** Downloads over a link that gives so much a second in all for so many connections. */
class Link implements SpareUser {
  isAwaited = true;
  #bytes = 0;
  #openMs = 0;
  isContended = false;
  /** How many of its own it has, without those that are spare. */
  own: number;
  most = Infinity;
  readonly permits: Permit[] = [];
  readonly clock = new TestClock();
  readonly spares: SpareConnections;
  readonly #bytesPerSecond: (connections: number) => number;

  constructor(bytesPerSecond: (connections: number) => number, own = 1) {
    this.#bytesPerSecond = bytesPerSecond;
    this.own = own;
    this.spares = new SpareConnections({ clock: this.clock, perBlob: 3, isContended: () => this.isContended });
    this.spares.join(this);
  }

  get received() {
    return { bytes: this.#bytes, openMs: this.#openMs };
  }

  get connections(): number {
    return this.own + this.permits.length;
  }

  wants(): boolean {
    return this.permits.length < this.most;
  }

  grow(permit: Permit): void {
    this.permits.push(permit);
  }

  /** Segments end each second: what is too much by then is given back. */
  pass(seconds: number): void {
    for (let quarter = 0; quarter < 4 * seconds; quarter++) {
      this.#bytes += this.#bytesPerSecond(this.connections) / 4;
      this.#openMs += this.connections * 250;
      this.clock.advance(250);
      if (quarter % 4 === 3) while (this.spares.isOverLimit && this.permits.length > 0) this.permits.pop()?.release();
    }
  }
}

describe('spare connections', () => {
  test('grow where each brings as much as the first', () => {
    const link = new Link(connections => connections * 25 * MIB);
    link.pass(0.25);
    assert.equal(link.connections, 9);
    link.pass(10);
    assert.equal(link.connections, 33);
    link.pass(60);
    assert.equal(link.connections, 33);
  });

  test('are no more than bring something', () => {
    const link = new Link(connections => Math.min(connections, 10) * 25 * MIB);
    link.pass(20);
    assert.ok(link.connections >= 5 && link.connections <= 17, `${link.connections}`);
  });

  test('are given up where the link is full without them, and are not tried again and again', () => {
    const link = new Link(() => 50 * MIB, 3);
    link.pass(20);
    const seen: number[] = [];
    for (let i = 0; i < 60; i++) {
      link.pass(1);
      seen.push(link.permits.length);
    }
    assert.ok(seen.filter(count => count === 0).length > 45, seen.join());
    assert.ok(Math.max(...seen) <= 2, seen.join());
  });

  test('come back when the link gives more', () => {
    let mostBytes = 50 * MIB;
    const link = new Link(connections => Math.min(mostBytes, connections * 25 * MIB), 3);
    link.pass(20);
    assert.ok(link.permits.length <= 2);
    mostBytes = Infinity;
    link.pass(300);
    assert.ok(link.permits.length > 10, `${link.permits.length}`);
  });

  test('are none while others wait for a permit, and those that there are know it', () => {
    const link = new Link(connections => connections * MIB);
    link.pass(1);
    link.isContended = true;
    assert.ok(link.permits[0]?.isAwaited);
    link.pass(2);
    assert.equal(link.permits.length, 0);
  });

  test('are halved for a while when the upstream limits us', () => {
    const link = new Link(connections => connections * MIB);
    link.pass(5);
    const before = link.permits.length;
    link.spares.limited();
    link.pass(5);
    assert.equal(link.permits.length, Math.floor(before / 2));
    link.pass(60);
    assert.ok(link.permits.length > before / 2);
  });

  test('are for those first whose clients wait', () => {
    const link = new Link(connections => connections * MIB);
    link.isAwaited = false;
    const served: string[] = [];
    const user = (name: string, isAwaited: boolean): SpareUser => ({
      ...{ isAwaited, received: { bytes: 0, openMs: 0 } },
      wants: () => true,
      grow: () => served.push(name),
    });
    link.most = 0;
    link.spares.join(user('ahead', false));
    link.spares.join(user('a', true));
    link.spares.join(user('b', true));
    link.spares.serve();
    assert.deepEqual(served, ['a', 'b', 'ahead', 'a', 'b', 'ahead', 'a', 'b']);
  });

  test('of an upstream that gives no ranges are tried again after an hour', () => {
    const { spares, clock } = new Link(() => 0);
    assert.equal(spares.hasRanges, true);
    spares.gaveNoRange();
    assert.equal(spares.hasRanges, false);
    clock.advance(3_600_000);
    assert.equal(spares.hasRanges, true);
  });
});
