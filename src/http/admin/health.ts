// Health: /healthz says that the process is up, /readyz whether it can do its work.
import { Hono } from 'hono';
import { reasonOf } from '../../oci/errors.ts';

export interface HealthServices {
  /** Rejects with the reason when the cache cannot do its work now. */
  ready(): Promise<void>;
}

export function createHealth({ ready }: HealthServices): Hono {
  return new Hono()
    .get('/healthz', c => c.text('ok\n'))
    .get('/readyz', async c => {
      try {
        await ready();
        return c.text('ready\n');
      } catch (error) {
        return c.text(`not ready: ${reasonOf(error)}\n`, 503);
      }
    });
}
