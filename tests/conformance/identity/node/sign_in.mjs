// A person signs in: code with PKCE, pushed or not, bound or not; userinfo, the API, refresh, revocation, the way out.

import * as client from 'openid-client'
import { ask, call, configuration, dpop, judge, refused, stand } from './judge.mjs'

await judge(async () => {
  const config = await configuration()
  const options = { DPoP: await dpop(config) }
  const tokens = await signIn(config, options)
  const claims = tokens.claims()
  const result = {
    metadata: config.serverMetadata(),
    token_type: tokens.token_type,
    scope: tokens.scope,
    expires_in: tokens.expiresIn(),
    claims,
    has_refresh_token: tokens.refresh_token !== undefined,
  }
  if (claims) result.userinfo = await client.fetchUserInfo(config, tokens.access_token, claims.sub, options)
  if (stand.api) result.api = await call(config, tokens.access_token, stand.api, options)
  if (tokens.refresh_token) Object.assign(result, await refresh(config, tokens, options))
  if (stand.revoke) Object.assign(result, await revoke(config, tokens, options))
  if (stand.post_logout_redirect_uri) {
    const leave = client.buildEndSessionUrl(config, {
      post_logout_redirect_uri: stand.post_logout_redirect_uri,
      id_token_hint: tokens.id_token,
      state: 'bye',
    })
    result.signed_out = (await ask({ leave: leave.href })).callback
  }
  return result
})

async function signIn(config, options) {
  const verifier = client.randomPKCECodeVerifier()
  const [state, nonce] = [client.randomState(), stand.oauth2 ? undefined : client.randomNonce()]
  const parameters = {
    redirect_uri: stand.redirect_uri,
    scope: stand.scope,
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    state,
    ...(nonce && { nonce }),
    ...stand.parameters,
  }
  if (options.DPoP && !stand.par) parameters.dpop_jkt = await options.DPoP.calculateThumbprint()
  const url = stand.par
    ? await client.buildAuthorizationUrlWithPAR(config, parameters, options)
    : client.buildAuthorizationUrl(config, parameters)
  const { callback } = await ask({ visit: url.href })
  const checks = {
    pkceCodeVerifier: verifier,
    expectedState: state,
    idTokenExpected: !stand.oauth2,
    ...(nonce && { expectedNonce: nonce }),
    ...(stand.parameters?.max_age && { maxAge: Number(stand.parameters.max_age) }),
  }
  const extra = stand.parameters?.resource ? { resource: stand.parameters.resource } : undefined
  return client.authorizationCodeGrant(config, new URL(callback), checks, extra, options)
}

async function refresh(config, tokens, options) {
  const next = await client.refreshTokenGrant(config, tokens.refresh_token, undefined, options)
  const api = stand.api ? await call(config, next.access_token, stand.api, options) : null
  const result = {
    refreshed: {
      rotated: next.refresh_token !== undefined && next.refresh_token !== tokens.refresh_token,
      other_access_token: next.access_token !== tokens.access_token,
      sub: next.claims()?.sub ?? null,
      api,
    },
  }
  tokens.refresh_token = next.refresh_token ?? tokens.refresh_token
  tokens.access_token = next.access_token
  return result
}

async function revoke(config, tokens, options) {
  await client.tokenRevocation(config, tokens.refresh_token)
  const after = await refused(() => client.refreshTokenGrant(config, tokens.refresh_token, undefined, options))
  return { after_revocation: after }
}
