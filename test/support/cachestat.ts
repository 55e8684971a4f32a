// Whether this machine says what of a file is in memory: cachestat(2) came with Linux 6.5, and a container's filter of
// system calls may be older than that.
import { readFileSync } from 'node:fs';
import { release } from 'node:os';

export function hasCachestat(): boolean {
  if (process.platform !== 'linux') return false;
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const isFiltered = /^Seccomp:\s+2$/m.test(readFileSync('/proc/self/status', 'utf8'));
  return !isFiltered && (major > 6 || (major === 6 && minor >= 5));
}
