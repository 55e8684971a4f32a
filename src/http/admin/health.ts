// Health: /healthz says that the process is up, /readyz whether it can do its work.
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { Hono } from 'hono';
import { reasonOf } from '../../oci/errors.ts';
import type { Bindings } from '../registry/exchange.ts';

export interface HealthServices {
  /** Rejects with the reason when the cache cannot do its work now. */
  ready(): Promise<void>;
}

export function createHealth({ ready }: HealthServices): Hono<{ Bindings: Bindings }> {
  return new Hono<{ Bindings: Bindings }>()
    .get('/healthz', ({ env: { exchange } }) => {
      exchange.kind = 'health';
      exchange.sendText(200, 'ok\n');
      return RESPONSE_ALREADY_SENT;
    })
    .get('/readyz', async ({ env: { exchange } }) => {
      exchange.kind = 'health';
      try {
        await ready();
        exchange.sendText(200, 'ready\n');
      } catch (error) {
        exchange.sendText(503, `not ready: ${reasonOf(error)}\n`);
      }
      return RESPONSE_ALREADY_SENT;
    });
}
