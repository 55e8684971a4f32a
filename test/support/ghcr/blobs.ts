// The registry's view of blobs: HEAD is answered here, GET redirects to a signed URL on the blob host, unless the
// switches say otherwise. How blobs get in is the business of uploads.
import { parseDigest } from '../../../src/oci/digest.ts';
import type { BlobHost } from './blobhost.ts';
import { contentReply, type Exchange, type Reply, validatorsOf } from './exchange.ts';
import { answers } from './faults.ts';
import type { Package } from './packages.ts';
import type { State } from './state.ts';

export class Blobs {
  readonly #state: State;
  readonly #blobHost: BlobHost;

  constructor(state: State, blobHost: BlobHost) {
    this.#state = state;
    this.#blobHost = blobHost;
  }

  /** GET and HEAD. */
  get(exchange: Exchange, found: Package | undefined): Reply {
    const { switches, lags } = this.#state;
    const { repository = '', digest: wanted = '' } = exchange.record;
    if (!parseDigest(wanted)) return answers.digestInvalid;
    const blob = lags.seen('blob', found, wanted);
    if (!blob) return answers.blobUnknown;

    const headers = {
      'content-type': 'application/octet-stream',
      'accept-ranges': 'bytes',
      ...validatorsOf(blob.digest, switches),
    };
    if (!switches.redirects) return contentReply(exchange, blob, headers);
    if (exchange.request.method === 'HEAD' && switches.blobHead === 'ok') {
      return { status: 200, headers, content: blob };
    }
    const location = switches.redirectTo(this.#blobHost.signedUrl(repository, wanted));
    return { status: switches.redirectStatus, headers: location === undefined ? {} : { location } };
  }

  /** DELETE, where the registry allows it. */
  delete({ record: { digest = '' } }: Exchange, found: Package | undefined): Reply {
    if (!found?.blobs.has(digest)) return answers.blobUnknown;
    this.#state.lags.write('blob', found, digest, () => found.blobs.delete(digest));
    return { status: 202 };
  }
}
