"""What a user may build with torch, each with what becomes of it: right numbers, or a refusal before the first step."""
