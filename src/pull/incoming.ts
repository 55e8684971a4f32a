// The bytes of one blob while they come in, and those that follow them. Clients never drive the writer: a follower
// reads the ingest at its own pace, waits where that ends, and may leave at any time.
import type { Source } from '../content/content.ts';
import type { Ingest } from '../content/ingest.ts';
import { HoldBack } from './hold-back.ts';

export class Incoming extends HoldBack {
  readonly ingest: Ingest;
  /** Whether any client has been given a byte of it. */
  wasSeen = false;

  constructor(ingest: Ingest) {
    super(ingest.progress, () => ingest.writtenBytes);
    this.ingest = ingest;
  }

  /** A follower, once there is something that it may have. Throws what the incoming failed with. */
  async follow(): Promise<Source> {
    await this.until(0);
    this.wasSeen = true;
    return this.clip(this.ingest.reader());
  }
}
