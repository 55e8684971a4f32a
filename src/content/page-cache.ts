// Which bytes of a file are in memory: cachestat(2), since Linux 6.5, which neither Node nor the C libraries have a
// function for, called through koffi. It waits for no disk.

/** The same number on nearly all architectures. */
const CACHESTAT = 451;

export interface PageCache {
  /** Whether all of these bytes of an open file are in memory. Undefined where the system does not tell. */
  holds(fd: number, position: number, count: number): boolean | undefined;
}

/** Undefined where there can be no such call, or koffi does not load. */
export async function loadPageCache(): Promise<PageCache | undefined> {
  if (process.platform !== 'linux') return undefined;
  try {
    const { default: koffi } = await import('koffi');
    const libc = koffi.load(null);
    const syscall = libc.func('long syscall(long number, int fd, void *range, void *stat, uint flags)');
    const pageBytes = libc.func('int getpagesize()')() as number;
    // Outside of V8's heap, where the collector could move them during the call.
    const range = new BigInt64Array(new ArrayBuffer(16));
    const stat = new BigInt64Array(new ArrayBuffer(40));
    return {
      holds: (fd, position, count) => {
        range[0] = BigInt(position);
        range[1] = BigInt(count);
        // -1 from a kernel that does not have it, a file system that has no pages, or a sandbox that forbids it.
        if (syscall(CACHESTAT, fd, range, stat, 0) !== 0) return undefined;
        const pages = Math.ceil((position + count) / pageBytes) - Math.floor(position / pageBytes);
        return Number(stat[0]) === pages;
      },
    };
  } catch {
    return undefined;
  }
}
