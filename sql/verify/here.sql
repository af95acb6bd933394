-- The shops whose calendar is in {zone}; without {is_listed} those that no other zone is known of.
(shop_id IN (SELECT shop_id FROM shops FINAL WHERE (zone = {zone:String}) = {is_listed:UInt8})) = {is_listed:UInt8}
