// A client that shows its certificate, from a PKCS#12 file: node orders.mjs URL.
// It has no truststore: the trust anchor is a PEM file.
import { readFileSync } from 'node:fs';
import { get } from 'node:https';

const [url, keystore = 'pki/orders.p12', anchor = 'pki/root.crt'] = process.argv.slice(2);
const options = {
  ca: readFileSync(anchor),
  pfx: readFileSync(keystore),
  passphrase: process.env.KEYSTORE_PASSWORD,
};
get(url, options, (response) => response.pipe(process.stdout)).on('error', (e) => {
  console.error(String(e));
  process.exitCode = 1;
});
