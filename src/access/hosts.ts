// Which names clients may use for this cache, in the Host of their requests. A web page can be served under a name of
// its own that it then lets mean this machine (DNS rebinding), and its requests carry that name: so only addresses, names
// that nobody can register, and those of this machine and its configuration are answered.
import { isIP } from 'node:net';
import { LRUCache } from 'lru-cache';

/** Whether requests with this Host, `name` or `name:port`, are answered. */
export type HostCheck = (host: string) => boolean;

/** Domains that nobody can register: RFC 6762, 6761 and 8375, ICANN's reserved `.internal`, and those of Kubernetes. */
const PRIVATE_DOMAINS = ['localhost', 'local', 'internal', 'lan', 'home.arpa', 'svc', 'cluster.local'];
/** Names that were asked for lately; clients use one or two. */
const REMEMBERED = 256;
/** The longest name of the DNS, and a port. */
const LIMIT_CHARS = 253 + ':65535'.length;

/** Accepts, beside what is accepted everywhere, the given names, in any case. Remembers its verdicts, within bounds. */
export function hostCheck(names: Iterable<string>): HostCheck {
  const ours = new Set([...names].map(normalized));
  const verdicts = new LRUCache<string, boolean>({ max: REMEMBERED });
  return host => {
    const known = verdicts.get(host);
    if (known !== undefined) return known;
    if (host.length > LIMIT_CHARS) return false;
    const name = nameOf(host);
    const verdict = name !== undefined && (isIP(name) !== 0 || isPrivate(name) || ours.has(name));
    verdicts.set(host, verdict);
    return verdict;
  };
}

/** Normalized, an IPv6 address without its brackets; undefined when it is not a host with or without a port. */
function nameOf(host: string): string | undefined {
  const [, address, name] = /^(?:\[([\da-f:.]+)\]|([\w.-]+))(?::\d{1,5})?$/i.exec(host) ?? [];
  if (address !== undefined) return isIP(address) === 6 ? address : undefined;
  return name === undefined ? undefined : normalized(name);
}

function normalized(name: string): string {
  return name.toLowerCase().replace(/\.$/, '');
}

function isPrivate(name: string): boolean {
  return /^[\w-]+$/.test(name) || PRIVATE_DOMAINS.some(domain => name.endsWith(`.${domain}`));
}
