// What kind of network an IP address leads to, seen from this machine.
import { BlockList, isIP } from 'node:net';

/** `never`: nothing that a registry could rightly send us to, such as the metadata services of clouds. */
export type IpKind = 'public' | 'private' | 'loopback' | 'never';

const NEVER = listOf([
  // Unspecified: this machine; link-local, with most metadata services; multicast, reserved.
  ...['0.0.0.0/8', '169.254.0.0/16', '224.0.0.0/4', '240.0.0.0/4', '::/128', 'fe80::/10', 'ff00::/8'],
  // Metadata services of Alibaba, Azure, Oracle and AWS elsewhere.
  ...['100.100.100.200/32', '168.63.129.16/32', '192.0.0.192/32', 'fd00:ec2::/32'],
]);
const LOOPBACK = listOf(['127.0.0.0/8', '::1/128']);
const PRIVATE = listOf([
  ...['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', '192.0.0.0/24', '198.18.0.0/15'],
  // Unique local, site-local; NAT64 of a local kind, and Teredo, whose IPv4 address is not to be seen.
  ...['fc00::/7', 'fec0::/10', '64:ff9b:1::/48', '2001::/32'],
]);

/** What is no address is `never`. */
export function ipKindOf(address: string): IpKind {
  const bare = address.replace(/%.*$/, '');
  const family = isIP(bare);
  if (family === 0) return 'never';
  const embedded = family === 6 ? embeddedIpv4(bare) : undefined;
  if (embedded !== undefined) return ipKindOf(embedded);
  const type = family === 6 ? 'ipv6' : 'ipv4';
  if (NEVER.check(bare, type)) return 'never';
  if (LOOPBACK.check(bare, type)) return 'loopback';
  return PRIVATE.check(bare, type) ? 'private' : 'public';
}

/** The IPv4 address that a packet to this IPv6 address comes to: mapped, compatible, NAT64 (RFC 6052), 6to4 (RFC 3056). */
function embeddedIpv4(address: string): string | undefined {
  const groups = groupsOf(address);
  const [first = 0, second = 0, third = 0] = groups;
  const isZero = (from: number, to: number) => groups.slice(from, to).every(group => group === 0);
  if (first === 0x2002) return dotted(second, third);
  const low = dotted(groups[6] ?? 0, groups[7] ?? 0);
  if (first === 0x64 && second === 0xff9b && isZero(2, 6)) return low;
  if (!isZero(0, 5)) return undefined;
  const isCompatible = groups[5] === 0 && groups[6] !== 0;
  return groups[5] === 0xffff || isCompatible ? low : undefined;
}

function groupsOf(address: string): number[] {
  // A URL writes it in hexadecimal throughout.
  const [, plain = ''] = /^\[(.*)\]$/.exec(new URL(`http://[${address}]/`).hostname) ?? [];
  const [head = '', tail] = plain.split('::');
  const read = (text: string) => (text === '' ? [] : text.split(':').map(group => Number.parseInt(group, 16)));
  if (tail === undefined) return read(head);
  const [before, after] = [read(head), read(tail)];
  return [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
}

function dotted(high: number, low: number): string {
  return [high >> 8, high & 255, low >> 8, low & 255].join('.');
}

function listOf(subnets: readonly string[]): BlockList {
  const list = new BlockList();
  for (const subnet of subnets) {
    const [network = '', bits] = subnet.split('/');
    list.addSubnet(network, Number(bits), network.includes(':') ? 'ipv6' : 'ipv4');
  }
  return list;
}
