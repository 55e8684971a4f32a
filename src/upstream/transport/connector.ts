// How undici opens its connections, so that plain ones read into reused memory.
import type { Socket } from 'node:net';
import { buildConnector } from 'undici';
import { ReceiveBuffer } from '../../base/receive-buffers.ts';

/**
 * Connects as undici does. A plain connection reads into a receive buffer; TLS delivers records of 16 KiB, for which
 * that would be one more copy.
 */
export function connector(options: buildConnector.BuildOptions): buildConnector.connector {
  const connectTls = buildConnector(options);
  return (target, callback) => {
    if (target.protocol === 'https:') return connectTls(target, callback);
    const received = new ReceiveBuffer();
    const onread = {
      buffer: () => received.space(),
      callback: (count: number): boolean => socket.push(received.take(count)),
    };
    // undici passes options that it does not know on to net.connect, and returns the socket; its types say neither. A
    // stream joins two reads that wait for its reader into one, by a copy: so one of any size is enough to wait.
    const passedOn = { onread, highWaterMark: undefined, readableHighWaterMark: 1 };
    const connect = buildConnector({ ...options, ...passedOn } as buildConnector.BuildOptions);
    const socket = connect(target, callback) as unknown as Socket;
    socket.once('close', () => received.close());
    return socket;
  };
}
