-- Copyright (c) hybridlab.platform contributors
-- GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
-- Which domains are ours: those that have a key.

local lua_maps = require "lua_maps"

local DIRECTORY = "/srv/dkim"
local selectors = lua_maps.map_add_from_ucl(DIRECTORY .. "/selectors.map", "map", "active DKIM selectors")

local ours = { DIRECTORY = DIRECTORY }

-- The active selector of a domain, or nil.
function ours.selector(domain)
  return domain and selectors and selectors:get_key(domain) or nil
end

-- The domain of the first address, or nil.
function ours.domain_of(addresses)
  local first = addresses and addresses[1]
  local domain = first and first.domain
  return domain and domain ~= "" and domain:lower() or nil
end

return ours
