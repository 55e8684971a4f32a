// A reverse proxy between the cache and the registry behind it, through which a test observes and disturbs upstream
// requests: every exchange is recorded, the proxy can be switched off (connections are refused) and on again on the
// same port, and it can cut the body of a response or of an upload.
import {
  type ClientRequest,
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

const UPLOADS = '/blobs/uploads/';

/** One request through the proxy, and its response. */
export interface Exchange {
  readonly method: string;
  /** With the query, if there is one. */
  readonly path: string;
  readonly range: string | undefined;
  readonly ifNoneMatch: string | undefined;
  status: number;
  /** Bytes of the response body sent to the cache. */
  bodyBytes: number;
  /** Bytes of the request body sent on to the registry. */
  requestBytes: number;
}

interface Cut {
  readonly pathEnd: string;
  readonly atByte: number;
}

export class CountingProxy implements AsyncDisposable {
  /** All exchanges since the last `clear`, in order of their start. */
  exchanges: Exchange[] = [];
  readonly #target: URL;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #port = 0;
  #cut: Cut | undefined;
  #cutUploadAt = Number.POSITIVE_INFINITY;

  private constructor(target: string) {
    this.#target = new URL(target);
  }

  static async start(target: string): Promise<CountingProxy> {
    const proxy = new CountingProxy(target);
    await proxy.switchOn();
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  clear(): void {
    this.exchanges = [];
  }

  /** The exchanges whose path contains `part`. */
  of(part: string): Exchange[] {
    return this.exchanges.filter(exchange => exchange.path.includes(part));
  }

  /** Bytes of blobs uploaded to the registry since the last `clear`. */
  get uploadedBytes(): number {
    return this.of(UPLOADS).reduce((sum, { requestBytes }) => sum + requestBytes, 0);
  }

  /** Refuses new connections, and closes existing ones. */
  async switchOff(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    for (const socket of this.#sockets) socket.destroy();
    if (server) await new Promise(resolve => server.close(resolve));
  }

  /** Listens, always on the same port. */
  async switchOn(): Promise<void> {
    const server = createServer((request, response) => this.#handle(request, response));
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.#port, '127.0.0.1', resolve);
    });
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  /** Cuts the next response for a path with this end after `atByte` bytes of its body. Once only. */
  cutNext(pathEnd: string, atByte: number): void {
    this.#cut = { pathEnd, atByte };
  }

  /** Cuts the next upload whose body reaches `atByte` bytes there, on both sides. Once only. */
  cutNextUpload(atByte: number): void {
    this.#cutUploadAt = atByte;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.switchOff();
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    const exchange: Exchange = {
      method: request.method ?? '',
      path: request.url ?? '',
      range: request.headers.range,
      ifNoneMatch: request.headers['if-none-match'],
      status: 0,
      bodyBytes: 0,
      requestBytes: 0,
    };
    this.exchanges.push(exchange);

    const onward = httpRequest(
      {
        host: this.#target.hostname,
        port: this.#target.port,
        method: request.method,
        path: request.url,
        headers: request.headers,
      },
      answer => {
        exchange.status = answer.statusCode ?? 0;
        response.writeHead(exchange.status, answer.headers);
        this.#sendBody(exchange, answer, response);
      },
    );
    onward.once('error', () => response.destroy());
    response.once('close', () => {
      if (!response.writableFinished) onward.destroy();
    });
    this.#sendRequest(exchange, request, onward);
  }

  #sendRequest(exchange: Exchange, request: IncomingMessage, onward: ClientRequest): void {
    const isUpload = exchange.path.includes(UPLOADS);
    request.on('data', (chunk: Buffer) => {
      const left = this.#cutUploadAt - exchange.requestBytes;
      const isCut = isUpload && left > 0 && chunk.length >= left;
      const bytes = isCut ? chunk.subarray(0, left) : chunk;
      exchange.requestBytes += bytes.length;
      if (isCut) {
        this.#cutUploadAt = Number.POSITIVE_INFINITY;
        request.removeAllListeners('data').removeAllListeners('end').resume();
        // Closed only after a flush, so that what was counted does arrive.
        onward.write(bytes, () => onward.destroy());
      } else if (!onward.write(bytes)) {
        request.pause();
        onward.once('drain', () => request.resume());
      }
    });
    request.once('end', () => onward.end());
  }

  #sendBody(exchange: Exchange, answer: IncomingMessage, response: ServerResponse): void {
    const cutAt = this.#takeCut(exchange);
    answer.on('data', (chunk: Buffer) => {
      const bytes = chunk.subarray(0, cutAt - exchange.bodyBytes);
      exchange.bodyBytes += bytes.length;
      if (exchange.bodyBytes === cutAt) {
        answer.removeAllListeners('data').removeAllListeners('end').resume();
        // Closed only after a flush, so that what was counted does arrive.
        response.write(bytes, () => response.socket?.destroySoon());
      } else if (!response.write(bytes)) {
        answer.pause();
        response.once('drain', () => answer.resume());
      }
    });
    answer.once('end', () => response.end());
    answer.once('error', () => response.destroy());
  }

  #takeCut(exchange: Exchange): number {
    const cut = this.#cut;
    if (!cut || exchange.method !== 'GET' || !exchange.path.endsWith(cut.pathEnd)) return Number.POSITIVE_INFINITY;
    this.#cut = undefined;
    return cut.atByte;
  }
}
