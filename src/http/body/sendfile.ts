// sendfile(2), which Node has no function for, called through koffi. A call in a thread has its own descriptor of the
// socket, so that Node can close its own, and the system give its number to another connection, at any time.
import type { Socket } from 'node:net';
import { loadPageCache } from '../../content/page-cache.ts';

/**
 * Sends up to `count` bytes of a file from `position` on, ahead of anything that Node has yet to write. Returns how many
 * the socket accepted: fewer when it is full or the file ends, 0 also when the system call fails. Undefined, with
 * nothing sent, when the socket is closed or not a plain one. The file must stay open until then; the socket need not.
 */
export interface Sendfile {
  /** In a thread of libuv's pool, where a slow disk does not block the event loop. */
  inThread(socket: Socket, fd: number, position: number, count: number): Promise<number | undefined>;
  /**
   * On the event loop, which saves the way to a thread and back. Undefined, with nothing sent, also when not all of the
   * bytes are known to be in memory.
   */
  atOnce(socket: Socket, fd: number, position: number, count: number): number | undefined;
}

/** Undefined, after `onMissing` was told why, where there is no such call or koffi does not load. */
export async function loadSendfile(onMissing: (why: string) => void): Promise<Sendfile | undefined> {
  if (process.platform !== 'linux') {
    onMissing(`${process.platform} has another sendfile than Linux`);
    return undefined;
  }
  try {
    const { default: koffi } = await import('koffi');
    // Whichever C library this process is linked with.
    const libc = koffi.load(null);
    const dup = libc.func('int dup(int fd)');
    const close = libc.func('int close(int fd)');
    const sendfile = libc.func('int64_t sendfile(int to, int from, int64_t *offset, size_t count)');
    const pageCache = await loadPageCache();
    const at = outside(1);

    return {
      inThread: async (socket, fd, position, count) => {
        const open = descriptorOf(socket);
        if (open === undefined) return undefined;
        const own = dup(open) as number;
        if (own < 0) return undefined;
        const offset = outside(1);
        offset[0] = BigInt(position);
        return new Promise((resolve, reject) => {
          sendfile.async(own, fd, offset, count, (error: Error | null) => {
            close(own);
            if (error) reject(error);
            // The call advances it by what it sent.
            else resolve(Number(offset[0]) - position);
          });
        });
      },
      atOnce: (socket, fd, position, count) => {
        const open = descriptorOf(socket);
        if (open === undefined || !pageCache?.holds(fd, position, count)) return undefined;
        at[0] = BigInt(position);
        sendfile(open, fd, at, count);
        return Number(at[0]) - position;
      },
    };
  } catch (error) {
    onMissing((error as Error).message);
    return undefined;
  }
}

/** Memory for a call, outside of V8's heap, where the collector could move it during the call. */
function outside(numbers: number): BigInt64Array {
  return new BigInt64Array(new ArrayBuffer(numbers * BigInt64Array.BYTES_PER_ELEMENT));
}

/** Not a public API, but it has been in this place for as long as Node has had handles. */
function descriptorOf(socket: Socket): number | undefined {
  const fd = (socket as { _handle?: { fd?: unknown } | null })._handle?.fd;
  const isPlain = !socket.destroyed && !('encrypted' in socket);
  return isPlain && typeof fd === 'number' && fd >= 0 ? fd : undefined;
}
