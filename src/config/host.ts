// Hosts: what is one, which of them are this machine, and the one that the program is named after.
import { BlockList, isIP, isIPv6 } from 'node:net';

/** The upstream that is always configured, and the one that environment variables hold a credential for. */
export const GHCR = 'ghcr.io';

/** Not GitHub: it asks whoever mistypes for a login. */
const LOOK_ALIKE = 'ghrc.io';

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/**
 * Whether `host` can only mean this machine: `localhost`, or an address (in brackets or not) of the loopback
 * interface. Other names are not looked up: their meaning can change.
 */
export function isLoopback(host: string): boolean {
  const address = host.replace(/^\[(.*)\]$/, '$1');
  const family = isIP(address);
  if (family === 0) return address.toLowerCase() === 'localhost';
  return LOOPBACK.check(address, family === 6 ? 'ipv6' : 'ipv4');
}

/** Whether a credential that is meant for GitHub would go to somebody else at `host`, with a port or without. */
export function isLookAlike(host: string): boolean {
  const name = host.replace(/:\d+$/, '').replace(/\.$/, '').toLowerCase();
  return name === LOOK_ALIKE || name.endsWith(`.${LOOK_ALIKE}`);
}

/** Whether `text` is `host` or `host:port` in lower case, IPv6 in brackets. */
export function isHost(text: string): boolean {
  const [, host = '', port] = /^(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?$/.exec(text) ?? [];
  if (port !== undefined && (Number(port) < 1 || Number(port) > 65535)) return false;
  if (host.startsWith('[')) return isIPv6(host.slice(1, -1));
  return host.length <= 253 && host.split('.').every(isLabel);
}

/**
 * Whether a request can name `text` as its upstream: a host with a dot or a port, or `localhost`. A plain word
 * would hide an owner of that name on the default upstream; the docker client draws the same line.
 */
export function isUpstreamHost(text: string): boolean {
  return isHost(text) && (/[.:]/.test(text) || text === 'localhost');
}

function isLabel(label: string): boolean {
  return /^[a-z0-9_-]{1,63}$/.test(label) && !label.startsWith('-') && !label.endsWith('-');
}

/** Whether what is sent there goes unencrypted to another machine. */
export function isPlainHttp(url: URL | undefined): boolean {
  return url !== undefined && url.protocol !== 'https:' && !isLoopback(url.hostname);
}
