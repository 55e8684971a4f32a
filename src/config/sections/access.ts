// `access`: which clients may use the cache. This version has only the open mode, in which any client that reaches the
// port uses the stored credentials; so an address that is not loopback has to be asked for. Everything is decided at
// start: the section is not part of Config.
import type { z } from 'zod';
import { isLoopback } from '../host.ts';
import type { Source } from '../source.ts';
import * as value from '../values.ts';

export const access = value.section({
  mode: value.supported('open').prefault('open'),
  /** Whether any client may use an address that is not loopback. */
  network: value.flag.prefault(false),
});

/** Throws ConfigError when the network would be let in without having been asked for. */
export function checkAccess({ mode, network }: z.output<typeof access>, host: string, source: Source): void {
  if (network || isLoopback(host)) return;
  throw source.error(
    ['listen', 'host'],
    `${host} is not loopback, and in ${mode} mode any client that reaches it can use your credentials; ` +
      'write "access: { network: true }" if they all may',
  );
}
