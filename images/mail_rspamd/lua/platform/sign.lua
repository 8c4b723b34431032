-- Copyright (c) hybridlab.platform contributors
-- GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
-- What a mail of ours is signed with: { domain, selector, key }, or false.
-- Who sent it has logged in, or it is this host's own (bounces, vacation answers). Whether the login may use the envelope's sender was Postfix's
-- question; here the header's domain has to be the envelope's, so that nobody gets a signature for a domain that is not his.

local lua_maps = require "lua_maps"
local rspamd_util = require "rspamd_util"

local DIRECTORY = "/srv/dkim"
local selectors = lua_maps.map_add_from_ucl(DIRECTORY .. "/selectors.map", "map", "active DKIM selectors")

local function domain_of(addresses)
  local first = addresses and addresses[1]
  local domain = first and first.domain
  return domain and domain ~= "" and domain:lower() or nil
end

-- The domain that may sign, or nil.
local function signer(task)
  local from = task:get_from("mime")
  local header = domain_of(from)
  if not header or #from ~= 1 then return nil end
  local login = task:get_user()
  local envelope = domain_of(task:get_from("smtp"))
  if login and envelope then return envelope == header and header or nil end
  if login then return (login:match("@([^@]+)$") or ""):lower() == header and header or nil end
  local address = task:get_from_ip()
  return address and address:is_valid() and address:is_local() and header or nil
end

return function(task)
  local domain = signer(task)
  local selector = domain and selectors and selectors:get_key(domain)
  if not selector then return false end
  local key = string.format("%s/%s/%s.key", DIRECTORY, domain, selector)
  if not rspamd_util.file_exists(key) then return false end
  return { domain = domain, selector = selector, key = key }
end
