// Where requests for one upstream may go: to the registry, to what the config names, and, for blobs and uploads, to where
// the registry sends us, within limits. Whoever answers for a registry must not have us ask around in our own network.
//
// A name is judged by what it resolves to, at the moment of the connection; behind a proxy, which resolves names itself,
// by itself alone.
import type { LookupAddress } from 'node:dns';
import { isIP } from 'node:net';
import { RegistryError } from '../../oci/errors.ts';
import { type IpKind, ipKindOf } from './ip-kind.ts';

export interface DestinationsOptions {
  readonly registry: URL;
  /** `host` or `host:port` of the registry's token realms and APIs, which the config names. */
  readonly trusted: readonly string[];
  /** `host`, `host:port` or `*.suffix` of hosts that the registry may send us to, whatever they resolve to. */
  readonly blobHosts: readonly string[];
  /** Whether those are all. */
  readonly areAll: boolean;
}

/** A registry may send us to hosts of its own kind, and to those that anybody can reach. */
const RANK: Readonly<Record<Exclude<IpKind, 'never'>, number>> = { public: 0, private: 1, loopback: 2 };
/** Names of metadata services, for proxies that would resolve them. */
const NEVER_NAMES: readonly string[] = ['metadata.google.internal', 'metadata.goog'];

export class Destinations {
  readonly #options: DestinationsOptions;
  /** The kind of addresses that the registry itself has. */
  #registryKind: Exclude<IpKind, 'never'> = 'public';

  constructor(options: DestinationsOptions) {
    this.#options = options;
    const kind = kindOfHost(options.registry.hostname);
    if (kind !== undefined && kind !== 'never') this.#registryKind = kind;
  }

  /** Throws UPSTREAM_INVALID for a URL that must not be dialed, as far as its host tells. */
  check(url: URL): void {
    if (this.isTrusted(url)) return;
    const isNamed = this.#options.blobHosts.some(pattern => matches(pattern, url.host, url.hostname));
    const kind = kindOfHost(url.hostname);
    if (kind === undefined ? isNamed || !this.#options.areAll : this.#isAllowed(kind, isNamed)) return;
    throw this.#refusal(url.host, kind === undefined ? '' : described(kind), kind === 'never');
  }

  /** Those addresses of a name that may be connected to. Throws UPSTREAM_INVALID when there are none. */
  filter(hostname: string, addresses: readonly LookupAddress[]): LookupAddress[] {
    const { registry, trusted, blobHosts } = this.#options;
    const kinds = addresses.map(({ address }) => ipKindOf(address));
    if (hostname === registry.hostname) this.#registryKind = outermost(kinds);
    if (hostname === registry.hostname || trusted.some(each => nameIn(each) === hostname)) return [...addresses];
    const isNamed = blobHosts.some(pattern => matches(nameIn(pattern), hostname, hostname));
    const allowed = addresses.filter((_, i) => this.#isAllowed(kinds[i] ?? 'never', isNamed));
    if (allowed.length > 0 || addresses.length === 0) return allowed;
    const kind = kinds[0] ?? 'never';
    throw this.#refusal(hostname, `, ${addresses[0]?.address}${described(kind)}`, kind === 'never');
  }

  /** Whether it is the registry, or a host that the config names for its tokens and APIs. */
  isTrusted(url: URL): boolean {
    const { registry, trusted } = this.#options;
    return url.host === registry.host || trusted.includes(url.host) || trusted.includes(url.hostname);
  }

  #isAllowed(kind: IpKind, isNamed: boolean): boolean {
    if (kind === 'never') return false;
    return isNamed || (!this.#options.areAll && RANK[kind] <= RANK[this.#registryKind]);
  }

  #refusal(host: string, what: string, isFinal: boolean): RegistryError {
    const advice = isFinal ? '' : '; if it is right, add its host to blobHosts of this upstream in the config';
    return new RegistryError(
      'UPSTREAM_INVALID',
      `${this.#options.registry.host} sends us to ${host}${what}, where it may not send us${advice}`,
    );
  }
}

/** The kind of an address, or of a name that can mean only one; undefined for other names. */
function kindOfHost(hostname: string): IpKind | undefined {
  const address = hostname.replace(/^\[(.*)\]$/, '$1');
  if (isIP(address) !== 0) return ipKindOf(address);
  const name = hostname.replace(/\.$/, '');
  if (name === 'localhost' || name.endsWith('.localhost')) return 'loopback';
  return NEVER_NAMES.includes(name) ? 'never' : undefined;
}

/** The kind that all of these at least are. */
function outermost(kinds: readonly IpKind[]): Exclude<IpKind, 'never'> {
  if (kinds.length > 0 && kinds.every(kind => kind === 'loopback')) return 'loopback';
  return kinds.length > 0 && kinds.every(kind => kind === 'loopback' || kind === 'private') ? 'private' : 'public';
}

function described(kind: IpKind): string {
  if (kind === 'public') return '';
  return kind === 'never' ? ', which no registry may send us to' : `, a ${kind} address`;
}

function matches(pattern: string, ...names: readonly string[]): boolean {
  return names.some(name => (pattern.startsWith('*.') ? name.endsWith(pattern.slice(1)) : name === pattern));
}

/** `host` of `host:port`. */
function nameIn(host: string): string {
  return host.replace(/:\d+$/, '');
}
