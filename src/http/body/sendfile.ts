// sendfile(2), which Node has no function for, called through koffi.
import type { Socket } from 'node:net';

/**
 * Sends up to `count` bytes of the file from `position` on, past whatever Node has still to write. Says how many the
 * socket has taken: fewer when it is full or the file ends, 0 also when the system refused. Undefined, and nothing is
 * sent, when this is no plain socket or not open. The file must stay open until then; the socket need not.
 */
export interface Sendfile {
  /** In a thread of libuv's pool: a disk that is slow keeps that waiting, and not the event loop. */
  inThread(socket: Socket, fd: number, position: number, count: number): Promise<number | undefined>;
  /**
   * Here and now, which spares the way to a thread and back. Undefined, and nothing is sent, also when not all of the
   * bytes are in memory, or when that cannot be told.
   */
  atOnce(socket: Socket, fd: number, position: number, count: number): number | undefined;
}

/** cachestat(2), of Linux 6.5: a number for nearly all architectures, and no function in the C libraries yet. */
const CACHESTAT = 451;

/** Undefined, and `onMissing` told why, where there is no such call or koffi does not load. */
export async function loadSendfile(onMissing: (why: string) => void): Promise<Sendfile | undefined> {
  if (process.platform !== 'linux') {
    onMissing(`${process.platform} has another sendfile than Linux`);
    return undefined;
  }
  try {
    const { default: koffi } = await import('koffi');
    // The C library that this process has, whichever it is.
    const libc = koffi.load(null);
    const dup = libc.func('int dup(int fd)');
    const close = libc.func('int close(int fd)');
    const sendfile = libc.func('int64_t sendfile(int to, int from, int64_t *offset, size_t count)');
    const syscall = libc.func('long syscall(long number, int fd, void *range, void *stat, uint flags)');
    const pageBytes = libc.func('int getpagesize()')() as number;
    const range = outside(2);
    const stat = outside(5);

    function isInMemory(fd: number, position: number, count: number): boolean {
      range[0] = BigInt(position);
      range[1] = BigInt(count);
      // A kernel that does not know it, or a sandbox that forbids it, says -1.
      if (syscall(CACHESTAT, fd, range, stat, 0) !== 0) return false;
      const pages = Math.ceil((position + count) / pageBytes) - Math.floor(position / pageBytes);
      return Number(stat[0]) === pages;
    }

    return {
      inThread: async (socket, fd, position, count) => {
        const open = descriptorOf(socket);
        if (open === undefined) return undefined;
        // Node closes its own when the client leaves, and the next connection gets that number, while the call may
        // still be under way. This one stays what it is until it is closed.
        const own = dup(open) as number;
        if (own < 0) return undefined;
        const offset = outside(1);
        offset[0] = BigInt(position);
        return new Promise((resolve, reject) => {
          sendfile.async(own, fd, offset, count, (error: Error | null) => {
            close(own);
            if (error) reject(error);
            // The call moves it by what it sent.
            else resolve(Number(offset[0]) - position);
          });
        });
      },
      atOnce: (socket, fd, position, count) => {
        const open = descriptorOf(socket);
        if (open === undefined || !isInMemory(fd, position, count)) return undefined;
        range[0] = BigInt(position);
        sendfile(open, fd, range, count);
        return Number(range[0]) - position;
      },
    };
  } catch (error) {
    onMissing((error as Error).message);
    return undefined;
  }
}

/** Memory for a call: a buffer that is given stays outside of the heap, where the collector could move it meanwhile. */
function outside(numbers: number): BigInt64Array {
  return new BigInt64Array(new ArrayBuffer(numbers * BigInt64Array.BYTES_PER_ELEMENT));
}

/** Node tells it nobody officially, but has had it at this place for as long as there have been handles. */
function descriptorOf(socket: Socket): number | undefined {
  const fd = (socket as { _handle?: { fd?: unknown } | null })._handle?.fd;
  const isPlain = !socket.destroyed && !('encrypted' in socket);
  return isPlain && typeof fd === 'number' && fd >= 0 ? fd : undefined;
}
