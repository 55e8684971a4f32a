// How undici opens its connections, so that they read into memory that is used again.
import type { Socket } from 'node:net';
import { buildConnector } from 'undici';
import { ReceiveBuffer } from '../../base/receive-buffers.ts';

/**
 * Connects as undici does. What comes over a plain connection is in memory of an inlet; over TLS it comes in records of
 * 16 KiB, for which that would be one copy more.
 */
export function connector(options: buildConnector.BuildOptions): buildConnector.connector {
  const connectTls = buildConnector(options);
  return (target, callback) => {
    if (target.protocol === 'https:') return connectTls(target, callback);
    const inlet = new ReceiveBuffer();
    const onread = {
      buffer: () => inlet.room(),
      callback: (count: number): boolean => socket.push(inlet.take(count)),
    };
    // It passes on to net.connect what it does not know itself, and returns the socket, which its types do not say. A
    // stream makes one of two reads that wait for its reader, by a copy: so one of any size is enough to wait.
    const passedOn = { onread, highWaterMark: undefined, readableHighWaterMark: 1 };
    const connect = buildConnector({ ...options, ...passedOn } as buildConnector.BuildOptions);
    const socket = connect(target, callback) as unknown as Socket;
    socket.once('close', () => inlet.close());
    return socket;
  };
}
