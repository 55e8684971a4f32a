// `pins`: images that are never evicted. Each names exactly one: by tag, `latest` if it has none, or by digest.
import { parseImage } from '../../oci/reference.ts';
import { isUpstreamHost } from '../host.ts';
import type { Source } from '../source.ts';
import * as value from '../values.ts';

export const pins = value.list(value.text('an image')).prefault([]);

/** The images. Throws ConfigError. */
export function checkPins(
  written: readonly string[],
  upstreams: { has(host: string): boolean; readonly default: string },
  source: Source,
) {
  return written.map((pin, i) => {
    const problem = (text: string) => source.error(['pins', i], `${source.quote(['pins', i])} ${text}`);
    const host = pin.slice(0, Math.max(0, pin.indexOf('/')));
    if (isUpstreamHost(host) && !upstreams.has(host)) throw problem(`is of ${host}, which is not one of the upstreams`);
    const image = parseImage(pin, upstreams);
    if (image !== undefined) return image;
    throw problem('is not an image; write it like owner/image:tag or ghcr.io/owner/image:tag');
  });
}
