// Whether this machine can tell which parts of a file are in the page cache: cachestat(2) needs Linux 6.5, and a
// container's seccomp filter may not know it.
import { readFileSync } from 'node:fs';
import { release } from 'node:os';

export function hasCachestat(): boolean {
  if (process.platform !== 'linux') return false;
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const isFiltered = /^Seccomp:\s+2$/m.test(readFileSync('/proc/self/status', 'utf8'));
  return !isFiltered && (major > 6 || (major === 6 && minor >= 5));
}
