// How the fake ghcr.io handles a request, the same at each origin: record it, pick its fault, let the site answer or
// the fault in its place, send the response. The order is decided here and nowhere else.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Exchange, Reply, Site } from './exchange.ts';
import type { Faults } from './faults.ts';
import type { RequestLog } from './log.ts';
import { type Arrival, hold, RequestBody, RequestGone } from './receive.ts';
import { send } from './send.ts';
import type { Switches } from './switches.ts';

export interface HandlerParts {
  readonly log: RequestLog;
  readonly faults: Faults;
  readonly switches: Switches;
}

export type Handler = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

export function handlerOf(site: Site, { log, faults, switches }: HandlerParts): Handler {
  return async (request, response) => {
    const url = new URL(request.url ?? '/', 'http://fake.invalid');
    const record = log.begin(request, site.route(url));
    const fault = faults.take(record);
    const gone = new Promise<void>(resolve => {
      response.once('close', () => {
        if (!response.writableFinished) record.state = 'aborted';
        log.changed();
        resolve();
      });
    });
    const arrival: Arrival = { request, response, url, record, fault, gone };
    const exchange: Exchange = { ...arrival, body: new RequestBody(arrival) };
    try {
      const reply = await replyTo(exchange, site);
      if (reply) await send(exchange, log, reply, switches.omitContentLength);
    } catch (error) {
      if (!(error instanceof RequestGone)) throw error;
    }
  };
}

/** The site's reply, or the fault's in its place; undefined when a fault ended the connection. */
async function replyTo(exchange: Exchange, site: Site): Promise<Reply | undefined> {
  const { at = 'headers', answer } = exchange.fault?.action ?? {};
  if (at === 'headers' && !(await hold(exchange))) return undefined;
  const reply = answer && at !== 'done' ? undefined : await site.answer(exchange);
  // A site without use for the body did not read it.
  if (at === 'body') await exchange.body.skip();
  if (at === 'done' && !(await hold(exchange))) return undefined;
  return answer ?? reply;
}
