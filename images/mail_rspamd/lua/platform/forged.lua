-- Copyright (c) hybridlab.platform contributors
-- GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
-- Senders who say that they are somebody of ours.
-- Who has logged in may use the envelope's senders that Postfix allows; the address that the reader sees has to be the same one.
-- Who has not may be our own newsletter's server: SPF or DKIM says so. Without either the mail goes to Junk, whatever DMARC's records say, or fail to say.

local ours = require "platform/ours"

local options = rspamd_config:get_all_opt("platform") or {}
local DELIMITER = options.subaddress

-- An address without its detail.
local function bare(address)
  local place = DELIMITER and address:find(DELIMITER, 1, true)
  if not place or place == 1 then return address end
  return address:sub(1, place - 1) .. (address:match("@.*$") or "")
end

local function same(one, other)
  return one == other or bare(one) == other or one == bare(other)
end

-- An address of ours in the header that is not the sender's, or nil. A login without an envelope's sender writes as itself.
local function stolen(task)
  local login = task:get_user()
  if not login then return nil end
  local envelope = task:get_from("smtp")
  local sender = envelope and envelope[1] and envelope[1].addr or ""
  if sender == "" then sender = login end
  for _, from in ipairs(task:get_from("mime") or {}) do
    local address = (from.addr or ""):lower()
    if ours.selector((from.domain or ""):lower()) and not same(address, sender:lower()) then return address, sender end
  end
  return nil
end

rspamd_config:register_symbol({
  name = "FORGED_BY_LOGIN",
  type = "prefilter",
  priority = 9,
  group = "platform",
  score = 0.0,
  callback = function(task)
    local address, sender = stolen(task)
    if not address then return false end
    local message = string.format("From: %s is not the address that this mail is sent by, %s", address, sender)
    task:set_pre_result({ action = "reject", message = message, module = "forged", priority = 15 })
    return true, 1.0, address
  end,
})

local function within(domain, whole)
  return domain == whole or domain:sub(-#whole - 1) == "." .. whole
end

-- Whether SPF or DKIM passed for the header's domain, or one below it.
local function proven(task, header)
  if task:has_symbol("DMARC_POLICY_ALLOW") then return true end
  local envelope = ours.domain_of(task:get_from("smtp"))
  if envelope and within(envelope, header) and task:has_symbol("R_SPF_ALLOW") then return true end
  for _, found in ipairs(task:get_symbol("R_DKIM_ALLOW") or {}) do
    for _, signature in ipairs(found.options or {}) do
      if within(signature:match("^[^:]*"):lower(), header) then return true end
    end
  end
  return false
end

rspamd_config:register_symbol({
  name = "FORGED_OURS",
  type = "postfilter",
  group = "platform",
  score = 0.0,
  callback = function(task)
    local address = task:get_from_ip()
    if task:get_user() or (address and address:is_valid() and address:is_local()) then return false end
    for _, from in ipairs(task:get_from("mime") or {}) do
      local domain = (from.domain or ""):lower()
      if ours.selector(domain) and not proven(task, domain) then
        task:set_pre_result({ action = "add header", message = "A sender of ours, unproven", module = "forged", flags = "least" })
        return true, 1.0, domain
      end
    end
    return false
  end,
})
