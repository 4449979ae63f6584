// A device without a browser: it shows a code, a person allows it elsewhere.

import * as client from 'openid-client'
import { ask, call, configuration, dpop, judge, stand } from './judge.mjs'

await judge(async () => {
  const config = await configuration()
  const options = { DPoP: await dpop(config) }
  const started = await client.initiateDeviceAuthorization(config, { scope: stand.scope, ...stand.parameters })
  const { device_code, ...shown } = started
  const waiting = client.pollDeviceAuthorizationGrant(config, started, undefined, options)
  // The first poll must have been refused with authorization_pending before the person is even asked.
  const [tokens] = await Promise.all([waiting, ask({ device: shown })])
  const claims = tokens.claims() ?? null
  const api = stand.api ? await call(config, tokens.access_token, stand.api, options) : null
  return { shown, token_type: tokens.token_type, scope: tokens.scope, claims, api }
})
