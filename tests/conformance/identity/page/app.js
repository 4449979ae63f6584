// A single-page application on oidc-client-ts. The test calls these functions as a person would press buttons.

'use strict'

const settings = { ...window.SETTINGS, userStore: new oidc.WebStorageStateStore({ store: window.sessionStorage }) }
if (settings.bound) settings.dpop = { bind_authorization_code: true, store: new oidc.IndexedDbDPoPStore() }
const manager = new oidc.UserManager(settings)

function tell(what) {
  document.getElementById('told').textContent = JSON.stringify(what)
}

function shown(user) {
  if (!user) return null
  const { access_token, refresh_token, token_type, scope, profile, expires_in } = user
  return { access_token, has_refresh_token: Boolean(refresh_token), token_type, scope, profile, expires_in }
}

/** Run `action`, then say what came of it, or what the library complained of. */
async function run(action) {
  try {
    return await action()
  } catch (error) {
    return { failed: `${error.name}: ${error.message}` }
  }
}

window.app = {
  signIn: () => run(() => manager.signinRedirect()),
  renew: () => run(async () => shown(await manager.signinSilent())),
  user: () => run(async () => shown(await manager.getUser())),
  userinfo: () => run(userinfo),
  revoke: () => run(async () => manager.revokeTokens(['refresh_token', 'access_token'])),
  signOut: () => run(() => manager.signoutRedirect({ state: 'bye' })),
}

/** Userinfo by a bound token, which the library does not do by itself; again where the server wants a nonce. */
async function userinfo() {
  const url = await manager.metadataService.getUserInfoEndpoint()
  const user = await manager.getUser()
  let nonce
  for (;;) {
    const proof = await manager.dpopProof(url, user, 'GET', nonce)
    const answer = await fetch(url, { headers: { Authorization: `DPoP ${user.access_token}`, DPoP: proof } })
    if (answer.status !== 401 || nonce) return { status: answer.status, claims: await answer.json() }
    nonce = answer.headers.get('DPoP-Nonce')
  }
}

async function arrive() {
  const parameters = new URLSearchParams(window.location.search)
  if (window.location.pathname === '/callback') return { arrived: shown(await manager.signinRedirectCallback()) }
  if (window.location.pathname === '/signed-out') {
    await manager.signoutRedirectCallback()
    return { left: parameters.has('state'), user: shown(await manager.getUser()) }
  }
  return { ready: true }
}

run(arrive).then(tell)
